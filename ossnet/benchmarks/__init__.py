"""Networks, their input, their memory and ways to predict, each side by side and measured alike."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ossnet.benchmarks.settings import InferenceSettings, InputSettings, MemorySettings, ModelsSettings

if TYPE_CHECKING:
    from ossnet.benchmarks.inference import measure_inference
    from ossnet.benchmarks.inference_results import InferenceResult, InferenceRow
    from ossnet.benchmarks.input import measure_input
    from ossnet.benchmarks.input_results import InputResult, InputRow
    from ossnet.benchmarks.memory import measure_memory
    from ossnet.benchmarks.memory_results import MemoryResult, MemoryRow
    from ossnet.benchmarks.models import measure_models
    from ossnet.benchmarks.results import ModelRow, ModelsResult

__all__ = [
    "InferenceResult",
    "InferenceRow",
    "InferenceSettings",
    "InputResult",
    "InputRow",
    "InputSettings",
    "MemoryResult",
    "MemoryRow",
    "MemorySettings",
    "ModelRow",
    "ModelsResult",
    "ModelsSettings",
    "measure_inference",
    "measure_input",
    "measure_memory",
    "measure_models",
]

_MODULES = {
    "InferenceResult": "inference_results",
    "InferenceRow": "inference_results",
    "InputResult": "input_results",
    "InputRow": "input_results",
    "MemoryResult": "memory_results",
    "MemoryRow": "memory_results",
    "ModelRow": "results",
    "ModelsResult": "results",
    "measure_inference": "inference",
    "measure_input": "input",
    "measure_memory": "memory",
    "measure_models": "models",
}


def __getattr__(name: str) -> Any:
    """What needs torch is loaded when it is asked for."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
