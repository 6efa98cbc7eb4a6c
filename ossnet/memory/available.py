"""Memory that a device has for new work: a GPU's own, or the machine's within its container's limits."""

import math
from collections.abc import Iterator
from pathlib import Path

import torch

_PROCESSES = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")


def available_memory(device: torch.device) -> float:
    """Bytes beyond which work on a device cannot fit.

    Of a GPU all that it has, as what others hold comes and goes; of the main memory what is free, can be
    reclaimed or swapped, within the limits of the process's control groups. Infinite where no limit is given.
    """
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return main_memory()


def main_memory(processes: Path = _PROCESSES, groups: Path = _GROUPS) -> float:
    """Bytes of main memory for new work, as Linux reports it.

    Args:
        processes: where the kernel shows processes.
        groups: where control groups are mounted, of version 2 or 1.
    """
    return min([_machine(processes), *_containers(processes, groups)])


def _machine(processes: Path) -> float:
    sizes = _numbers(processes / "meminfo", separator=":")
    if "MemAvailable" not in sizes:
        return math.inf
    return 1024 * (sizes["MemAvailable"] + sizes.get("SwapFree", 0))


def _containers(processes: Path, groups: Path) -> Iterator[float]:
    """Bytes left in each control group that this process is in; caches of files make room."""
    for line in _lines(processes / "self" / "cgroup"):
        _, controllers, name = line.split(":", 2)
        if not controllers:
            root, files = groups, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            root = groups / "memory"
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        for folder in _upwards(root, name):
            limit, used = (_number(folder / file) for file in files[:2])
            if limit is not None and used is not None:
                yield limit - used + _numbers(folder / "memory.stat").get(files[2], 0)


def _upwards(root: Path, name: str) -> Iterator[Path]:
    """A group's folder and those it lies in; within a container the root is its own."""
    folder = root / name.strip("/")
    while folder != root:
        yield folder
        folder = folder.parent
    yield root


def _number(path: Path) -> int | None:
    """The one number in a file; None where there is no such file, or no limit (`max`)."""
    text = "".join(_lines(path))
    return int(text) if text.isdigit() else None


def _numbers(path: Path, separator: str | None = None) -> dict[str, int]:
    """Names and numbers, one of each a line."""
    found = {}
    for line in _lines(path):
        name, *rest = line.split(separator, 1)
        if rest:
            found[name] = int(rest[0].split()[0])
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:  # no such thing on this system
        return []
