"""Statistics of a split from the scores of its cases, under the names that tracking uses."""

from collections.abc import Sequence
from operator import attrgetter
from statistics import fmean, median
from typing import Any

from ossnet.config_tree import to_dict
from ossnet.evaluation.cases import CaseScore
from ossnet.evaluation.comparison import compare
from ossnet.evaluation.intervals import bootstrap_interval
from ossnet.evaluation.mask_metrics import MaskMetrics

POLICY = (
    "a class that neither label nor prediction has scores 1, at 0 mm; one that only one has scores 0, "
    "at the diagonal of the image; sensitivity is 1 where there is no lesion"
)


def summarize(scores: Sequence[CaseScore], *, split: str = "val") -> dict[str, float]:
    """Means of a split: `dice/val` over cases and classes, `dice/val/<class>` over cases, and so for IoU.

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
    """Mean with its interval, median and extremes over cases, of each class and of the mean of all."""
    classes = {name: _class_report([score.overlaps[name] for score in scores]) for name in scores[0].overlaps}
    for name in scores[0].details:
        classes[name] |= _details_report([score.details[name] for score in scores])
    return {
        "cases": len(scores),
        "dice": _spread([score.dice for score in scores]),
        "iou": _spread([score.iou for score in scores]),
        "classes": classes,
        "policy": POLICY,
    }


def comparison(scores: Sequence[CaseScore], others: Sequence[CaseScore]) -> dict[str, Any]:
    """The first network minus the other on the same cases, by measure, each averaged over the classes."""
    measures = {name: attrgetter(name) for name in ("dice", "iou", "hd95_mm", "nsd")}
    return {
        name: to_dict(compare(list(map(measure, scores)), list(map(measure, others))))
        for name, measure in measures.items()
    }


def _details_report(details: Sequence[MaskMetrics]) -> dict[str, Any]:
    values = [each.values() for each in details]
    spread = {
        name: _spread([each[name] for each in values]) for name in ("hd95_mm", "nsd", "volume_error_ml")
    }
    lesions, detected = (sum(int(each[name]) for each in values) for name in ("lesions", "detected"))
    false_positives = sum(each.detection.false_positives for each in details)
    return {
        **spread,
        "lesions": lesions,
        "lesions_detected": detected,
        "sensitivity": detected / lesions if lesions else 1.0,
        "false_positives_per_case": false_positives / len(details),
    }


def _class_report(overlaps: Sequence[Any]) -> dict[str, Any]:
    return {
        "dice": _spread([each.dice for each in overlaps]),
        "iou": _spread([each.iou for each in overlaps]),
        "false_negative_cases": sum(
            each.label_voxels > 0 and each.predicted_voxels == 0 for each in overlaps
        ),
        "false_positive_cases": sum(
            each.label_voxels == 0 and each.predicted_voxels > 0 for each in overlaps
        ),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    interval = bootstrap_interval(values)
    return {
        "mean": fmean(values),
        "mean_low": interval.low,
        "mean_high": interval.high,
        "median": median(values),
        "min": min(values),
        "max": max(values),
    }
