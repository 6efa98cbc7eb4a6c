"""How much of its machine a run uses, under the names that MLflow shows as system metrics."""

import time
from collections.abc import Callable

import psutil

_EVERY_S = 10.0
_PREFIX = "system/"
_GIB = 2**30


class MachineUse:
    """Samples the use of CPUs, memory and the process's GPU now and then.

    Args:
        every_s: between two samples. The first one comes after that, as shares of CPUs are those since the
            sample before.
    """

    def __init__(self, *, every_s: float = _EVERY_S, now: Callable[[], float] = time.monotonic) -> None:
        self._every_s, self._now, self._sampled = every_s, now, now()
        self._process = psutil.Process()
        self._has_gpu = True
        psutil.cpu_percent()  # from here on
        self._process.cpu_percent()

    def sample(self) -> dict[str, float]:
        """Metrics by name, since the last sample or now; none until the next one is due."""
        since = self._now() - self._sampled
        if since < self._every_s:
            return {}
        self._sampled += since
        found = {
            "cpu_utilization_percentage": psutil.cpu_percent(),  # whoever uses them
            "process_cpu_cores": self._process.cpu_percent() / 100,
            "system_memory_usage_percentage": psutil.virtual_memory().percent,
            "process_memory_gib": self._process.memory_info().rss / _GIB,
        }
        return {f"{_PREFIX}{name}": value for name, value in (found | self._gpu()).items()}

    def _gpu(self) -> dict[str, float]:
        """Of the whole GPU, with what others do on it."""
        import pynvml
        import torch

        if not (self._has_gpu and torch.cuda.is_initialized()):
            return {}
        free, whole = torch.cuda.mem_get_info()
        found = {"gpu_memory_usage_percentage": 100 * (1 - free / whole)}
        try:
            found["gpu_utilization_percentage"] = float(torch.cuda.utilization())
        except (RuntimeError, ModuleNotFoundError, pynvml.NVMLError):  # a part of a GPU has no such counter
            self._has_gpu = False
        return found
