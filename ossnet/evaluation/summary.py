"""From cases to figures of a whole split, under the names that tracking uses."""

from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

from ossnet.evaluation.cases import CaseScore


def summarise(scores: Sequence[CaseScore], *, split: str = "val") -> dict[str, float]:
    """`dice/val` (mean of cases and classes), `dice/val/<class>` (mean of cases), and the same of IoU.

    Raises:
        ValueError: no scores.
    """
    if not scores:
        msg = "expected the score of one case at least"
        raise ValueError(msg)
    metrics = {}
    for metric in ("dice", "iou"):
        metrics[f"{metric}/{split}"] = fmean(getattr(score, metric) for score in scores)
        for name in scores[0].overlaps:
            values = [getattr(score.overlaps[name], metric) for score in scores]
            metrics[f"{metric}/{split}/{name}"] = fmean(values)
    return metrics


def report(scores: Sequence[CaseScore]) -> dict[str, Any]:
    """Mean, median and extremes over cases, of the classes' mean and of each class."""
    classes = {name: _class_report([score.overlaps[name] for score in scores]) for name in scores[0].overlaps}
    return {
        "cases": len(scores),
        "dice": _spread([score.dice for score in scores]),
        "iou": _spread([score.iou for score in scores]),
        "classes": classes,
        "policy": "a class that neither label nor prediction has scores 1; that only one has scores 0",
    }


def _class_report(overlaps: Sequence[Any]) -> dict[str, Any]:
    return {
        "dice": _spread([each.dice for each in overlaps]),
        "iou": _spread([each.iou for each in overlaps]),
        "missed": sum(each.label_voxels > 0 and each.predicted_voxels == 0 for each in overlaps),
        "invented": sum(each.label_voxels == 0 and each.predicted_voxels > 0 for each in overlaps),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"mean": fmean(values), "median": median(values), "min": min(values), "max": max(values)}
