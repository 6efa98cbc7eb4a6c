"""How much of its machine a run uses, under the names that MLflow shows as system metrics."""

import time
from collections.abc import Callable
from pathlib import Path

_EVERY_S = 10.0
_PREFIX = "system/"
_PROCESSES = Path("/proc")
_GIB = 2**30


class MachineUse:
    """Samples the use of CPUs, memory and the process's GPU now and then; what is not known is left out.

    Args:
        every_s: between two samples. The first one comes after that, as shares of CPUs are those since the
            sample before.
        processes: where Linux shows them.
    """

    def __init__(
        self,
        *,
        every_s: float = _EVERY_S,
        now: Callable[[], float] = time.monotonic,
        processes: Path = _PROCESSES,
    ) -> None:
        self._every_s, self._now, self._processes = every_s, now, processes
        self._sampled, self._cpu, self._own = now(), self._cpu_ticks(), time.process_time()
        self._has_gpu = True

    def sample(self) -> dict[str, float]:
        """Metrics by name, since the last sample or now; none until the next one is due."""
        since = self._now() - self._sampled
        if since < self._every_s:
            return {}
        self._sampled += since
        before, self._own = self._own, time.process_time()
        found = {"process_cpu_cores": (self._own - before) / since}
        found |= self._cpu_share() | self._memory() | self._gpu()
        return {f"{_PREFIX}{name}": value for name, value in found.items()}

    def _cpu_share(self) -> dict[str, float]:
        """Of all CPUs of the machine, whoever uses them."""
        before, self._cpu = self._cpu, self._cpu_ticks()
        if before is None or self._cpu is None or self._cpu[1] == before[1]:
            return {}
        busy, whole = (after - earlier for after, earlier in zip(self._cpu, before, strict=True))
        return {"cpu_utilization_percentage": 100 * busy / whole}

    def _cpu_ticks(self) -> tuple[int, int] | None:
        """Ticks of all CPUs in which they worked, and all ticks; None where nothing says so."""
        lines = _lines(self._processes / "stat")
        ticks = [int(each) for each in lines[0].split()[1:9]] if lines else []  # later ones are in them
        return (sum(ticks) - ticks[3] - ticks[4], sum(ticks)) if len(ticks) == 8 else None

    def _memory(self) -> dict[str, float]:
        """In use on the machine, and by this process."""
        found, machine = dict[str, float](), _sizes(self._processes / "meminfo")
        if machine.keys() >= {"MemTotal", "MemAvailable"}:
            share = 1 - machine["MemAvailable"] / machine["MemTotal"]
            found["system_memory_usage_percentage"] = 100 * share
        own = _sizes(self._processes / "self" / "status").get("VmRSS")
        return found | ({} if own is None else {"process_memory_gib": own / _GIB})

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


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:  # another system
        return []


def _sizes(path: Path) -> dict[str, int]:
    """What a file of the kernel gives in kB, in bytes by name."""
    pairs = (line.partition(":") for line in _lines(path))
    return {name: 1024 * int(rest.split()[0]) for name, _, rest in pairs if rest.endswith(" kB")}
