"""Judging predictions on full volumes: metrics with a stated policy for empty cases, summaries, figures."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ossnet.evaluation.cases import CaseScore, score_cases
    from ossnet.evaluation.metrics import Overlap, dice_iou
    from ossnet.evaluation.summary import summarise

__all__ = ["CaseScore", "Overlap", "dice_iou", "score_cases", "summarise"]

_HOMES = {
    "CaseScore": "cases",
    "Overlap": "metrics",
    "dice_iou": "metrics",
    "score_cases": "cases",
    "summarise": "summary",
}


def __getattr__(name: str) -> Any:
    """What needs torch is loaded when it is asked for."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
