"""Ray's worker processes of a driver, found by their titles."""

import os
import signal
from contextlib import suppress
from pathlib import Path


def workers_of(driver: int) -> dict[int, str]:
    """The titles of a driver's worker processes by process id, idle ones included."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    below, found = [driver], list[int]()
    while below:
        below = [pid for pid, parent in parents.items() if parent in below]
        found += below
    titles = {}
    for pid in found:
        with suppress(OSError):
            titles[pid] = Path(f"/proc/{pid}/cmdline").read_text()
    return {pid: title for pid, title in titles.items() if title.startswith("ray::")}


def busy(driver: int, task: str) -> list[int]:
    """The process ids of workers that run a task whose title contains a word."""
    return [pid for pid, title in workers_of(driver).items() if task in title]


def kill(pids: list[int]) -> list[int]:
    """Kill processes; returns the ids of those that still ran."""
    killed = []
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)
    return killed
