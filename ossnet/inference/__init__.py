"""Prediction of whole volumes, on the working grid and on a scan's own. Imports neither Ray nor MLflow."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ossnet.inference.config import InferenceConfig

if TYPE_CHECKING:
    from ossnet.inference.predictor import Predictor, Segmentation
    from ossnet.inference.volume import VolumePrediction, predict_volume

__all__ = ["InferenceConfig", "Predictor", "Segmentation", "VolumePrediction", "predict_volume"]

_HOMES = {
    "Predictor": "predictor",
    "Segmentation": "predictor",
    "VolumePrediction": "volume",
    "predict_volume": "volume",
}


def __getattr__(name: str) -> Any:
    """What needs torch is loaded when it is asked for."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
