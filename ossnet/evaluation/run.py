"""Evaluation of a checkpoint on a split: scores of every case, a summary, representative overlays."""

import csv
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, Literal

from ossnet.config_tree import to_dict
from ossnet.data import Store
from ossnet.evaluation.calibration import ReliabilityBins, aggregate, reliabilities
from ossnet.evaluation.cases import CaseScore, check_task, score_case, split_cases
from ossnet.evaluation.figures import draw_overlay
from ossnet.evaluation.html_report import UNNAMED, Evaluated, Subject, render
from ossnet.evaluation.paper_protocol import POINTS, Protocol, SampledOverlap, sampled_overlap
from ossnet.evaluation.summary import comparison, report
from ossnet.inference import Predictor
from ossnet.inference.ensemble import AnyPredictor
from ossnet.inference.temperature import Calibration
from ossnet.output.atomic_write import atomic_write

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE_MM = 1.0
"""Tolerance of the normalized surface distance."""

EceProtocol = Literal["unseen", "cross-fitted", "in-sample"]
"""The temperature at which probabilities are evaluated. unseen: fitted on none of the cases, or on none at
all. cross-fitted: of a case that it was fitted on, the temperature fitted on the half without the case.
in-sample: of a single case, the temperature fitted on itself."""


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`, and the files it wrote."""

    summary: dict[str, Any]
    """Statistics of the split."""
    cases: Path
    """CSV, a row a case."""
    report: Path
    """The summary as JSON."""
    page: Path
    """The summary and the overlays as HTML."""
    overlays: tuple[Path, ...]
    """Pictures of the best, the median and the worst case."""

    @property
    def metrics(self) -> dict[str, float]:
        """The means as metrics of the checkpoint's run: `evaluation/<split>/dice`, and of each class."""
        found = {name: self.summary[name]["mean"] for name in ("dice", "iou")}
        for name, each in self.summary["classes"].items():
            means = {
                measure: each[measure]["mean"] for measure in ("dice", "hd95_mm", "nsd") if measure in each
            }
            means |= {"ece": each["ece"]} if "ece" in each else {}
            found |= {f"{measure}/{name}": value for measure, value in means.items()}
        return {f"evaluation/{self.summary['split']}/{name}": value for name, value in found.items()}

    def to_frame(self) -> "pd.DataFrame":
        """The scores as pandas' table: a row a case, the columns of `cases`."""
        import pandas as pd

        return pd.read_csv(self.cases, index_col="case", dtype={"case": str})

    @property
    def figures(self) -> dict[str, str]:
        """The main statistics as text, by name."""
        classes, note = self.summary["classes"], f" ({self.summary.get('ece_protocol')})"
        figures = {"dice": f"{self.summary['dice']['mean']:.4f}"}
        figures |= {f"dice/{name}": f"{each['dice']['mean']:.4f}" for name, each in classes.items()}
        figures |= {"iou": f"{self.summary['iou']['mean']:.4f}"}
        return figures | {
            f"ece/{name}": f"{each['ece']:.4f}{note}" for name, each in classes.items() if "ece" in each
        }


def evaluate(
    predictor: AnyPredictor,
    store: Store,
    *,
    split: str,
    fold: int | None = None,
    output: Path,
    baseline: Predictor | None = None,
    tolerance_mm: float = TOLERANCE_MM,
    calibrate: bool = False,
    fitted: Calibration | None = None,
    subject: Subject = UNNAMED,
    other: Subject | None = None,
    progress: Callable[[CaseScore, int, int], None] = lambda score, done, of: None,
) -> Evaluation:
    """Score every case of a split on full volumes of the working grid.

    Args:
        fold: the fold of the store that is validated, where the network was trained on the others.
        baseline: another network, to be compared case by case.
        tolerance_mm: the tolerance of the normalized surface distance.
        calibrate: whether to measure the calibration error too; every voxel is then decided by the network.
        fitted: where the predictor's temperature comes from; no case is evaluated at one fitted on it.
        subject: what the page calls the network.
        other: what the page calls the baseline.
        progress: called after every case with its score, the number of cases done, and of all cases.

    Raises:
        UserError: an empty split, or a store prepared for another task than a checkpoint's.
    """
    predictors = [predictor, *([] if baseline is None else [baseline])]
    for each in predictors:
        check_task(each.task, store)
    cases = split_cases(store, split, fold=fold)
    scorer, began = _Scorer(store, tolerance_mm), time.monotonic()
    total = len(cases) * len(predictors)
    for each in predictors:
        for case in cases:
            own = fitted.held_out.get(case) if fitted and each is predictor else None
            score = scorer.add(each, case, (own or each.temperature) if calibrate else None)
            progress(score, len(scorer.scores), total)
    seconds = (time.monotonic() - began) / total
    scores, others = scorer.scores[: len(cases)], scorer.scores[len(cases) :]
    summary = {"split": split, "fold": fold, **report(scores), "nsd_tolerance_mm": tolerance_mm}
    summary |= {"paper_protocol": scorer.paper_protocol(len(cases)), "seconds_per_case": seconds}
    if calibrate:
        summary |= {"temperature": predictor.temperature, "ece_protocol": _protocol(cases, fitted)}
        for name, bins in aggregate(scorer.reliabilities[: len(cases)]).items():
            summary["classes"][name]["ece"] = bins.error
    if predictor.components is not None:
        summary["components"] = to_dict(predictor.components)
    if others:
        summary["baseline"] = {**report(others), "difference": comparison(scores, others)}
        _write_cases(output / "cases_baseline.csv", others)
    atomic_write(output / "summary.json", json.dumps(summary, indent=2))
    _write_cases(output / "cases.csv", scores)
    overlays = {
        rank: _overlay(predictor, store, score, output / "overlays" / f"{rank}_{score.case}.png", rank)
        for rank, score in _representative_cases(scores).items()
    }
    compared = (other or Subject("the other", "")) if others else None
    about = Evaluated(str(store.root), subject, compared, scores, others)
    atomic_write(output / "evaluation.html", render(summary, overlays, about))
    return Evaluation(
        summary,
        output / "cases.csv",
        output / "summary.json",
        output / "evaluation.html",
        tuple(overlays.values()),
    )


class _Scorer:
    """The scores of cases, gathered one by one."""

    def __init__(self, store: Store, tolerance_mm: float) -> None:
        self.store = store
        self.tolerance_mm = tolerance_mm
        self.reliabilities: list[dict[str, ReliabilityBins]] = []
        self.scores: list[CaseScore] = []
        self.sampled: dict[Protocol, list[SampledOverlap]] = {protocol: [] for protocol in POINTS}

    def add(self, predictor: AnyPredictor, case: str, temperature: float | None) -> CaseScore:
        score, prediction = score_case(
            predictor, self.store, case, temperature=temperature, tolerance_mm=self.tolerance_mm
        )
        stored, task = self.store.case(case), self.store.task
        codes, label = prediction.classes.numpy(), task.codes(stored.label)
        for protocol, overlaps in self.sampled.items():
            overlaps.append(sampled_overlap(codes > 0, label > 0, protocol=protocol))
        if prediction.probabilities is not None:
            self.reliabilities.append(reliabilities(prediction.probabilities, codes, label, task))
        self.scores.append(score)
        return self.scores[-1]

    def paper_protocol(self, cases: int) -> dict[Protocol, dict[str, float]]:
        """Mean overlap of foreground over the first `cases` cases, by protocol."""
        return {
            protocol: {
                "dice": fmean(each.dice for each in overlaps[:cases]),
                "iou": fmean(each.iou for each in overlaps[:cases]),
            }
            for protocol, overlaps in self.sampled.items()
        }


def _write_cases(path: Path, scores: Sequence[CaseScore]) -> None:
    """Write a CSV of a row a case and a column a class and measure."""
    rows = [_row(score) for score in scores]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(path, text.getvalue())


def _row(score: CaseScore) -> dict[str, Any]:
    row: dict[str, Any] = {"case": score.case, "dice": score.dice, "iou": score.iou}
    for name, overlap in score.overlaps.items():
        row[f"dice/{name}"] = overlap.dice
        row[f"iou/{name}"] = overlap.iou
        row[f"label_voxels/{name}"] = overlap.label_voxels
        row[f"predicted_voxels/{name}"] = overlap.predicted_voxels
    for name, details in score.details.items():
        row |= {f"{measure}/{name}": value for measure, value in details.values().items()}
    return row


def _protocol(cases: Sequence[str], fitted: Calibration | None) -> EceProtocol:
    if fitted is None or fitted.held_out.keys().isdisjoint(cases):
        return "unseen"
    return "in-sample" if fitted.in_sample else "cross-fitted"


def _representative_cases(scores: Sequence[CaseScore]) -> dict[str, CaseScore]:
    """The best, the median and the worst case, none of them twice."""
    ranked = sorted(scores, key=lambda score: score.dice, reverse=True)
    ranks = {(len(ranked) - 1) // 2: "median", len(ranked) - 1: "worst", 0: "best"}
    return {name: ranked[rank] for rank, name in sorted(ranks.items())}


def _overlay(predictor: AnyPredictor, store: Store, score: CaseScore, path: Path, rank: str) -> Path:
    stored, task = store.case(score.case), store.task
    _, prediction = score_case(predictor, store, score.case)
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
