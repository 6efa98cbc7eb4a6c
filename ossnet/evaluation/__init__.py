"""Evaluation on full volumes: metrics with a stated policy for empty cases, summaries, figures."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ossnet.evaluation.cases import CaseScore, score_cases
    from ossnet.evaluation.metrics import OverlapMetrics, dice_iou
    from ossnet.evaluation.summary import summarize

__all__ = ["CaseScore", "OverlapMetrics", "dice_iou", "score_cases", "summarize"]

_HOMES = {
    "CaseScore": "cases",
    "OverlapMetrics": "metrics",
    "dice_iou": "metrics",
    "score_cases": "cases",
    "summarize": "summary",
}


def __getattr__(name: str) -> Any:
    """What needs torch is loaded when it is asked for."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
