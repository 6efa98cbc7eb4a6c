"""A checkpoint against a store's split: scores of every case, a summary, overlays of the telling cases."""

import csv
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ossnet.data import Store, Task
from ossnet.errors import UserError
from ossnet.evaluation.cases import CaseScore, predict_case, score_case
from ossnet.evaluation.figures import draw_overlay
from ossnet.evaluation.summary import report
from ossnet.inference import Predictor


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found, and the files it wrote."""

    summary: dict[str, Any]
    cases: Path
    """CSV, a row a case."""
    report: Path
    """The summary as JSON."""
    overlays: tuple[Path, ...]


def evaluate(
    predictor: Predictor,
    store: Store,
    *,
    split: str,
    fold: int | None = None,
    output: Path,
    progress: Callable[[CaseScore, int, int], None] = lambda score, done, of: None,
) -> Evaluation:
    """Score every case of a split on full volumes of the working grid.

    Args:
        fold: of the store, where the network was trained on the others.
        progress: told of every case with how many are done, and of how many.

    Raises:
        UserError: an empty split, or a store prepared for another task than the checkpoint's.
    """
    _check_task(predictor.task, store)
    cases = store.split(split, fold=fold)
    if not cases:
        msg = f"{store.root}: the {split} split has no cases: choose another or prepare anew"
        raise UserError(msg)
    scores, began = [], time.monotonic()
    for case in cases:
        score, _ = score_case(
            predictor.network, store, case, sampling=predictor.sampling, settings=predictor.settings
        )
        scores.append(score)
        progress(score, len(scores), len(cases))
    seconds = (time.monotonic() - began) / len(cases)
    summary = {"split": split, "fold": fold, **report(scores), "seconds_per_case": seconds}
    output.mkdir(parents=True, exist_ok=True)
    _write(output / "summary.json", json.dumps(summary, indent=2))
    _write_cases(output / "cases.csv", scores)
    overlays = tuple(
        _overlay(predictor, store, score, output / "overlays" / f"{rank}_{score.case}.png", rank)
        for rank, score in _telling(scores).items()
    )
    return Evaluation(summary, output / "cases.csv", output / "summary.json", overlays)


def _check_task(task: Task, store: Store) -> None:
    for name in ("modalities", "labels", "normalisation", "spacing", "interpolation", "crop", "target"):
        expected, found = getattr(task, name), getattr(store.task, name)
        if expected != found:
            msg = f"{store.root}: the checkpoint was trained with {name} {expected}, the store has {found}"
            raise UserError(msg)


def _telling(scores: Sequence[CaseScore]) -> dict[str, CaseScore]:
    """The best, the median and the worst case, none of them twice."""
    order = sorted(scores, key=lambda score: score.dice, reverse=True)
    places = {(len(order) - 1) // 2: "median", len(order) - 1: "worst", 0: "best"}
    return {name: order[place] for place, name in sorted(places.items())}


def _overlay(predictor: Predictor, store: Store, score: CaseScore, path: Path, rank: str) -> Path:
    stored = store.case(score.case)
    prediction = predict_case(
        predictor.network, stored, sampling=predictor.sampling, settings=predictor.settings
    )
    draw_overlay(
        path,
        image=stored.image[0],
        label=stored.label,
        prediction=prediction.numpy(),
        spacing=stored.spacing,
        classes=tuple(store.task.labels),
        title=f"{score.case} ({rank}): Dice {score.dice:.3f}",
    )
    return path


def _write_cases(path: Path, scores: Sequence[CaseScore]) -> None:
    rows = [_row(score) for score in scores]
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    aside.replace(path)


def _row(score: CaseScore) -> dict[str, Any]:
    row: dict[str, Any] = {"case": score.case, "dice": score.dice, "iou": score.iou}
    for name, overlap in score.overlaps.items():
        row[f"dice/{name}"] = overlap.dice
        row[f"iou/{name}"] = overlap.iou
        row[f"label_voxels/{name}"] = overlap.label_voxels
        row[f"predicted_voxels/{name}"] = overlap.predicted_voxels
    return row


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(text)
    aside.replace(path)
