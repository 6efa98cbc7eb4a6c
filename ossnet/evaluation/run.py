"""A checkpoint against a store's split: scores of every case, a summary, overlays of the telling cases."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from ossnet.data import Store
from ossnet.errors import UserError
from ossnet.evaluation.calibration import ReliabilityBins, pooled, reliabilities
from ossnet.evaluation.cases import CaseScore, check_task, score_case, score_classes
from ossnet.evaluation.csv import write_cases
from ossnet.evaluation.figures import draw_overlay
from ossnet.evaluation.html_report import render
from ossnet.evaluation.paper_protocol import POINTS, Protocol, SampledOverlap, sampled_overlap
from ossnet.evaluation.summary import comparison, report
from ossnet.inference import Predictor
from ossnet.inference.temperature import Calibration
from ossnet.output.atomic_write import atomic_write

TOLERANCE_MM = 1.0
"""Of the normalized surface distance."""

EceProtocol = Literal["unseen", "cross-fitted", "in-sample"]
"""At which temperature probabilities are judged: one fitted on none of the cases, or on none at all; of cases
that it was fitted on, that fitted on the half of them without the case; of an only case its own."""


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found, and the files it wrote."""

    summary: dict[str, Any]
    cases: Path
    """CSV, a row a case."""
    report: Path
    """The summary as JSON."""
    page: Path
    """The telling cases as HTML."""
    overlays: tuple[Path, ...]

    @property
    def figures(self) -> dict[str, str]:
        """The main ones as text, by name."""
        classes, note = self.summary["classes"], f" ({self.summary.get('ece_protocol')})"
        told = {"dice": f"{self.summary['dice']['mean']:.4f}"}
        told |= {f"dice/{name}": f"{each['dice']['mean']:.4f}" for name, each in classes.items()}
        told |= {"iou": f"{self.summary['iou']['mean']:.4f}"}
        return told | {
            f"ece/{name}": f"{each['ece']:.4f}{note}" for name, each in classes.items() if "ece" in each
        }


def evaluate(
    predictor: Predictor,
    store: Store,
    *,
    split: str,
    fold: int | None = None,
    output: Path,
    baseline: Predictor | None = None,
    tolerance_mm: float = TOLERANCE_MM,
    calibration: bool = False,
    fitted: Calibration | None = None,
    progress: Callable[[CaseScore, int, int], None] = lambda score, done, of: None,
) -> Evaluation:
    """Score every case of a split on full volumes of the working grid.

    Args:
        fold: of the store, where the network was trained on the others.
        baseline: another network, to be compared case by case.
        tolerance_mm: of the normalized surface distance.
        calibration: also judge probabilities; every voxel is then decided, whatever the method.
        fitted: where the predictor's temperature comes from, so that no case is judged at one fitted on it.
        progress: told of every case with how many are done, and of how many.

    Raises:
        UserError: an empty split, or a store prepared for another task than a checkpoint's.
    """
    predictors = [predictor, *([] if baseline is None else [baseline])]
    for each in predictors:
        check_task(each.task, store)
    cases = store.split(split, fold=fold)
    if not cases:
        msg = f"{store.root}: the {split} split has no cases: choose another or prepare anew"
        raise UserError(msg)
    judged, began = _Scorer(store, tolerance_mm), time.monotonic()
    total = len(cases) * len(predictors)
    for each in predictors:
        for case in cases:
            own = fitted.held_out.get(case) if fitted and each is predictor else None
            score = judged.add(each, case, (own or each.temperature) if calibration else None)
            progress(score, len(judged.scores), total)
    seconds = (time.monotonic() - began) / total
    scores, others = judged.scores[: len(cases)], judged.scores[len(cases) :]
    summary = {"split": split, "fold": fold, **report(scores), "nsd_tolerance_mm": tolerance_mm}
    summary |= {"paper_protocol": judged.paper_protocol(len(cases)), "seconds_per_case": seconds}
    if calibration:
        summary |= {"temperature": predictor.temperature, "ece_protocol": _protocol(cases, fitted)}
        for name, found in pooled(judged.reliabilities[: len(cases)]).items():
            summary["classes"][name]["ece"] = found.error
    if others:
        summary["baseline"] = {**report(others), "difference": comparison(scores, others)}
        write_cases(output / "cases_against.csv", others)
    atomic_write(output / "summary.json", json.dumps(summary, indent=2))
    write_cases(output / "cases.csv", scores)
    overlays = {
        rank: _overlay(predictor, store, score, output / "overlays" / f"{rank}_{score.case}.png", rank)
        for rank, score in _representative_cases(scores).items()
    }
    atomic_write(output / "evaluation.html", render(summary, overlays))
    return Evaluation(
        summary,
        output / "cases.csv",
        output / "summary.json",
        output / "evaluation.html",
        tuple(overlays.values()),
    )


class _Scorer:
    """Scores gathered case by case."""

    def __init__(self, store: Store, tolerance_mm: float) -> None:
        self.store = store
        self.tolerance_mm = tolerance_mm
        self.reliabilities: list[dict[str, ReliabilityBins]] = []
        self.scores: list[CaseScore] = []
        self.sampled: dict[Protocol, list[SampledOverlap]] = {protocol: [] for protocol in POINTS}

    def add(self, predictor: Predictor, case: str, temperature: float | None) -> CaseScore:
        score, prediction = score_case(
            predictor.network,
            self.store,
            case,
            sampling=predictor.sampling,
            settings=predictor.settings,
            temperature=temperature,
        )
        stored, task = self.store.case(case), self.store.task
        codes, label = prediction.classes.numpy(), task.codes(stored.label)
        details = score_classes(codes, stored, task, tolerance_mm=self.tolerance_mm)
        for protocol, found in self.sampled.items():
            found.append(sampled_overlap(codes > 0, label > 0, protocol=protocol))
        if prediction.probabilities is not None:
            self.reliabilities.append(reliabilities(prediction.probabilities, codes, label, task))
        self.scores.append(replace(score, details=details))
        return self.scores[-1]

    def paper_protocol(self, cases: int) -> dict[Protocol, dict[str, float]]:
        """Means over the first so many cases of foreground against background."""
        return {
            protocol: {
                "dice": fmean(each.dice for each in found[:cases]),
                "iou": fmean(each.iou for each in found[:cases]),
            }
            for protocol, found in self.sampled.items()
        }


def _protocol(cases: Sequence[str], fitted: Calibration | None) -> EceProtocol:
    if fitted is None or fitted.held_out.keys().isdisjoint(cases):
        return "unseen"
    return "in-sample" if fitted.in_sample else "cross-fitted"


def _representative_cases(scores: Sequence[CaseScore]) -> dict[str, CaseScore]:
    """The best, the median and the worst case, none of them twice."""
    order = sorted(scores, key=lambda score: score.dice, reverse=True)
    places = {(len(order) - 1) // 2: "median", len(order) - 1: "worst", 0: "best"}
    return {name: order[place] for place, name in sorted(places.items())}


def _overlay(predictor: Predictor, store: Store, score: CaseScore, path: Path, rank: str) -> Path:
    stored, task = store.case(score.case), store.task
    _, prediction = score_case(
        predictor.network, store, score.case, sampling=predictor.sampling, settings=predictor.settings
    )
    draw_overlay(
        path,
        image=stored.image[0],
        label=task.display_class(task.codes(stored.label)),
        prediction=task.display_class(prediction.classes.numpy()),
        spacing=stored.spacing,
        classes=task.class_names,
        title=f"{score.case} ({rank}): Dice {score.dice:.3f}",
    )
    return path
