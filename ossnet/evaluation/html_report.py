"""An evaluation as one HTML page that needs no other file: figures, and representative cases as pictures."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ossnet.output.html import render_page

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


def render(summary: Mapping[str, Any], overlays: Mapping[str, Path]) -> str:
    """The text of the page.

    Args:
        summary: as `evaluate` makes it.
        overlays: PNG files by what the case stands for.
    """
    calibration = ""
    if "temperature" in summary:
        calibration = f"{summary['temperature']:.3g}{_ECE[summary['ece_protocol']]}"
    columns, rows = _classes(summary["classes"])
    return render_page(
        "evaluation.html",
        title=f"Evaluation of {summary['cases']} cases ({summary['split']})",
        class_columns=columns,
        class_rows=rows,
        tolerance=f"{summary['nsd_tolerance_mm']:g}",
        policy=summary["policy"],
        calibration=calibration,
        difference_columns=_DIFFERENCE,
        difference_rows=_difference(summary["baseline"]["difference"]) if "baseline" in summary else [],
        overlays=overlays,
    )


def _classes(classes: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Columns, and one row a class."""
    counts = {key: name for key, name in _COUNTS.items() if all(key in found for found in classes.values())}
    columns = ["class", *_MEASURES.values(), "lesions\ndetected", *counts.values()]
    rows = []
    for name, found in classes.items():
        means = [
            f"{s['mean']:.3f}\n{s['mean_low']:.3f} to {s['mean_high']:.3f}" for s in map(found.get, _MEASURES)
        ]
        lesions = f"{found['lesions_detected']} of {found['lesions']}"
        rows.append([name, *means, lesions, *(f"{found[key]:.3g}" for key in counts)])
    return columns, rows


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
