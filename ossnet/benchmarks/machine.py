"""The machine that a benchmark runs on."""

import gc
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Let torch use so many threads of the CPU for a while; None changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def resident_memory(field: str) -> int | None:
    """Bytes of this process in main memory: now (`VmRSS`), or at its peak (`VmHWM`); None off Linux."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)


def reset_peak_rss() -> None:
    """Reset `VmHWM` of this process, so that it gives the peak of what follows; off Linux there is none."""
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")


def processor() -> str:
    """The CPU's name, where the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def release_memory(device: torch.device) -> None:
    """Release the memory of one network, so that it does not count for the next."""
    gc.collect()
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.empty_cache()


def rates(gflops: Mapping[str, float]) -> str:
    """Rates of matrix products by precision, for people."""
    return ", ".join(f"{rate:.0f} GFLOP/s in {name}" for name, rate in gflops.items())
