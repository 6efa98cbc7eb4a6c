"""Networks, their input, their memory and ways to predict, each side by side and measured alike."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ossnet.benchmarks.config import (
    InferenceBenchmarkConfig,
    InputBenchmarkConfig,
    MemoryBenchmarkConfig,
    NetworksBenchmarkConfig,
)

if TYPE_CHECKING:
    from ossnet.benchmarks.inference.measure import measure_inference
    from ossnet.benchmarks.inference.results import InferenceResult, InferenceRow
    from ossnet.benchmarks.input.measure import measure_input
    from ossnet.benchmarks.input.results import InputResult, InputRow
    from ossnet.benchmarks.memory.measure import measure_memory
    from ossnet.benchmarks.memory.results import MemoryResult, MemoryRow
    from ossnet.benchmarks.networks.measure import measure_models
    from ossnet.benchmarks.networks.results import ModelRow, ModelsResult

__all__ = [
    "InferenceBenchmarkConfig",
    "InferenceResult",
    "InferenceRow",
    "InputBenchmarkConfig",
    "InputResult",
    "InputRow",
    "MemoryBenchmarkConfig",
    "MemoryResult",
    "MemoryRow",
    "ModelRow",
    "ModelsResult",
    "NetworksBenchmarkConfig",
    "measure_inference",
    "measure_input",
    "measure_memory",
    "measure_models",
]

_MODULES = {
    "InferenceResult": "inference.results",
    "InferenceRow": "inference.results",
    "InputResult": "input.results",
    "InputRow": "input.results",
    "MemoryResult": "memory.results",
    "MemoryRow": "memory.results",
    "ModelRow": "networks.results",
    "ModelsResult": "networks.results",
    "measure_inference": "inference.measure",
    "measure_input": "input.measure",
    "measure_memory": "memory.measure",
    "measure_models": "networks.measure",
}


def __getattr__(name: str) -> Any:
    """What needs torch is loaded when it is asked for."""
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
