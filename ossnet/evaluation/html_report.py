"""An evaluation as one HTML page that needs no other file: figures, every case, and some as pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossnet.data.labels.lesions import components_noun
from ossnet.evaluation.cases import CaseScore
from ossnet.output.charts import CaseMarks, case_chart
from ossnet.output.duration import counted
from ossnet.output.html import render_page
from ossnet.output.palette import color

if TYPE_CHECKING:
    from markupsafe import Markup

_MEASURES = {
    "dice": "Dice",
    "iou": "IoU",
    "hd95_mm": "HD95 (mm)",
    "nsd": "NSD",
    "volume_error_ml": "volume error\n(ml)",
}
_COUNTS = {
    "false_positives_per_case": "false\npositives\na case",
    "false_negative_cases": "false\nnegative\ncases",
    "false_positive_cases": "false\npositive\ncases",
    "ece": "ECE",
}
_ECE = {
    "unseen": "",
    "cross-fitted": "; of each case it was fitted on, at that fitted on the half of them without it",
    "in-sample": ", which was fitted on the very case that is scored: expect a larger one of others",
}
_DIFFERENCE = ("measure", "cases", "mean difference", "95 % interval", "larger", "smaller", "p (Wilcoxon)")


@dataclass(frozen=True)
class Subject:
    """What is evaluated, as the page names it."""

    network: str
    """The name of the network, or of several."""
    checkpoint: str
    """The folder that it was read from."""


UNNAMED = Subject("this network", "")
"""A network of which nobody says where it is from."""


@dataclass(frozen=True)
class Evaluated:
    """What a page is about, beside its figures."""

    store: str
    subject: Subject = UNNAMED
    other: Subject | None = None
    """What it is compared with, if anything."""
    scores: Sequence[CaseScore] = ()
    other_scores: Sequence[CaseScore] = ()

    def named(self) -> tuple[str, str]:
        """Two names that differ, of the network and of the other."""
        if self.other is None:
            return self.subject.network, ""
        own, other = self.subject.network, self.other.network
        return (own, other) if own != other else (f"{own} (this)", f"{other} (the other)")


def render(summary: Mapping[str, Any], overlays: Mapping[str, Path], evaluated: Evaluated) -> str:
    """The text of the page.

    Args:
        summary: as `evaluate` makes it.
        overlays: PNG files by what the case stands for.
        evaluated: the network, the store and the scores of each case.
    """
    calibration = ""
    if "temperature" in summary:
        calibration = f"{summary['temperature']:.3g}{_ECE[summary['ece_protocol']]}"
    count = summary["cases"]
    columns, rows = _classes(summary["classes"], alone=count == 1)
    network, other = evaluated.named()
    cases = counted(count, "case")
    return render_page(
        "evaluation.html",
        title=f"{network} on {cases} ({summary['split']})",
        facts=_facts(summary, evaluated),
        network=network,
        other=other,
        checkpoint=evaluated.subject.checkpoint,
        other_checkpoint="" if evaluated.other is None else evaluated.other.checkpoint,
        tiles=_tiles(summary),
        class_columns=columns,
        class_rows=rows,
        intervals="One case: there is no interval."
        if count == 1
        else "Means over cases, with their 95 % bootstrap interval.",
        components="A connected component of the label counts as found where the prediction touches it.",
        tolerance=f"{summary['nsd_tolerance_mm']:g}",
        policy=summary["policy"],
        calibration=calibration,
        difference_columns=_DIFFERENCE,
        difference_rows=_difference(summary["baseline"]["difference"]) if "baseline" in summary else [],
        case_chart=_case_chart(evaluated),
        legend=[(color(position), name) for position, name in enumerate(summary["classes"])],
        overlays=overlays,
    )


def _facts(summary: Mapping[str, Any], evaluated: Evaluated) -> dict[str, object]:
    fold = summary.get("fold")
    split = summary["split"] if fold is None else f"{summary['split']} (fold {fold})"
    facts: dict[str, object] = {
        "network": evaluated.subject.network,
        "checkpoint": evaluated.subject.checkpoint,
    }
    if evaluated.other is not None:
        facts["compared with"] = f"{evaluated.other.network}, {evaluated.other.checkpoint}"
    facts |= {"store": evaluated.store, "split": split, "cases": summary["cases"]}
    seconds = summary.get("seconds_per_case")
    return facts | ({} if seconds is None else {"time": f"{seconds:.2g} s a case, with all measures"})


def _tiles(summary: Mapping[str, Any]) -> dict[str, str]:
    """The figures that are read first."""
    found = {"mean Dice": summary.get("dice"), "mean IoU": summary.get("iou")}
    tiles = {name: f"{each['mean']:.3f}" for name, each in found.items() if each is not None}
    if "baseline" in summary and "dice" in summary["baseline"]:
        tiles["mean Dice of the other"] = f"{summary['baseline']['dice']['mean']:.3f}"
    return tiles


def _case_chart(evaluated: Evaluated) -> "Markup | None":
    if not evaluated.scores:
        return None
    others = {score.case: _dice(score) for score in evaluated.other_scores}
    marks = [CaseMarks(score.case, _dice(score), others.get(score.case, {})) for score in evaluated.scores]
    return case_chart(marks, classes=list(evaluated.scores[0].overlaps), measure="Dice")


def _dice(score: CaseScore) -> dict[str, float]:
    return {name: overlap.dice for name, overlap in score.overlaps.items()}


def _classes(classes: Mapping[str, Any], *, alone: bool) -> tuple[list[str], list[list[str]]]:
    """Columns, and one row a class; without intervals where there is one case alone."""
    counts = {key: name for key, name in _COUNTS.items() if all(key in found for found in classes.values())}
    columns = ["class", *_MEASURES.values(), "found", *counts.values()]
    rows = []
    for name, found in classes.items():
        means = [_mean(each, alone=alone) for each in map(found.get, _MEASURES)]
        total = found["lesions"]
        parts = f"{found['lesions_detected']} of {total} {components_noun(name, total)}"
        rows.append([name, *means, parts, *(f"{found[key]:.3g}" for key in counts)])
    return columns, rows


def _mean(spread: Mapping[str, float], *, alone: bool) -> str:
    mean = f"{spread['mean']:.3f}"
    return mean if alone else f"{mean}\n{spread['mean_low']:.3f} to {spread['mean_high']:.3f}"


def _difference(measures: Mapping[str, Any]) -> list[list[str]]:
    """Table rows for the measures, in the order of `_DIFFERENCE`."""
    rows = []
    for name, found in measures.items():
        low, high = found["interval"]["low"], found["interval"]["high"]
        mean, interval = f"{found['mean']:+.4f}", f"{low:+.4f} to {high:+.4f}"
        counts = [str(found["better"]), str(found["worse"])]
        p_value = f"{found['p_value']:.3g}"
        rows.append([_MEASURES[name], str(found["cases"]), mean, interval, *counts, p_value])
    return rows
