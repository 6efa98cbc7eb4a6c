"""All parts of the check, each in a process of its own and within its own time.

An error of CUDA leaves a process unusable, and a kernel may hang: so each part has its own process, whose
rows are kept as they come.
"""

import multiprocessing
import platform
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import torch

from ossnet.benchmarks.gpu import gpu_tests, parity, peaks, steps, volumes
from ossnet.benchmarks.gpu.results import (
    GpuResult,
    ParityRow,
    PartRecord,
    PeakRow,
    Problem,
    PytestRow,
    Row,
    Status,
    StepRow,
    VolumeRow,
)
from ossnet.benchmarks.gpu.sizes import Sizes
from ossnet.benchmarks.machine import processor
from ossnet.planning.margin import MemoryOverhead, NeededMemory, fit_margin

Work = Callable[[Sizes, str], Iterable[Row | Problem]]
TESTS_S = 120.0
_FIELDS: dict[type, str] = {
    PytestRow: "tests",
    ParityRow: "parity",
    PeakRow: "peaks",
    StepRow: "steps",
    VolumeRow: "volumes",
    Problem: "problems",
}


@dataclass(frozen=True)
class Part:
    """A part of the check."""

    name: str
    seconds: float
    """It is stopped after so long."""
    work: Work


PARTS = (
    Part(parity.PART, 90, parity.compare),
    Part(peaks.PART, 160, peaks.compare),
    Part(steps.PART, 140, steps.train),
    Part(volumes.PART, 60, volumes.predict_all),
)
"""Together with the tests below ten minutes."""


def check_device(
    sizes: Sizes,
    device: str,
    *,
    command: str,
    keep: Callable[[GpuResult], None],
    parts: Iterable[Part] = PARTS,
) -> GpuResult:
    """Run the tests and all parts, one after the other.

    Args:
        device: as torch names it; on a CPU the tests that need a GPU are skipped.
        command: the command line, stored in the result.
        keep: called with the result so far after each part.
        parts: what to run after the tests.
    """
    result = _machine(device, command)
    result = _with_rows(result, *_run_tests(TESTS_S * sizes.time_factor))
    keep(result)
    for part in parts:
        result = _with_rows(result, *_run_apart(part, sizes, device))
        keep(result)
    return result


def _run_tests(seconds: float) -> tuple[list[Row | Problem], PartRecord]:
    """The tests, which pytest runs in a process of its own."""
    began, rows = time.monotonic(), list[Row | Problem](gpu_tests.run_tests(gpu_tests.ROOT, seconds))
    status: Status = "failed" if any(isinstance(row, Problem) for row in rows) else "done"
    return rows, PartRecord(gpu_tests.PART, status, time.monotonic() - began)


def _run_apart(part: Part, sizes: Sizes, device: str) -> tuple[list[Row | Problem], PartRecord]:
    """The rows of a part until its end, its failure or the end of its time."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(part, sizes, device, sender), daemon=True)
    began, rows = time.monotonic(), list[Row | Problem]()
    process.start()
    sender.close()  # else the end of the process would not be the end of the pipe
    status: Status = "out of time"
    try:
        while receiver.poll(max(began + part.seconds * sizes.time_factor - time.monotonic(), 0)):
            row = receiver.recv()
            if row is None:
                status = "done"
                break
            rows.append(row)
    except EOFError:
        status = "failed"
        process.join()
        rows.append(Problem(part.name, "", f"its process ended with exit code {process.exitcode}"))
    finally:
        process.kill()
        process.join()
    return rows, PartRecord(part.name, status, time.monotonic() - began)


def _work(part: Part, sizes: Sizes, device: str, sender: Connection) -> None:
    """What the process of a part does: send its rows, then None."""
    try:
        for row in part.work(sizes, device):
            sender.send(row)
    except Exception:
        sender.send(Problem(part.name, "", traceback.format_exc()))
    sender.send(None)


def _with_rows(result: GpuResult, rows: Iterable[Row | Problem], record: PartRecord) -> GpuResult:
    kept = {name: list(getattr(result, name)) for name in _FIELDS.values()}
    for row in rows:
        kept[_FIELDS[type(row)]].append(row)
    added: dict[str, Any] = {name: tuple(values) for name, values in kept.items()}
    result = replace(result, parts=(*result.parts, record), **added)
    return replace(result, margin=_margin(result))


def _margin(result: GpuResult) -> MemoryOverhead | None:
    if result.device == "cpu" or not result.peaks:
        return None
    needs = [NeededMemory(row.predicted_bytes, row.needed_bytes) for row in result.peaks]
    return fit_margin(needs, source=f"fitted by `make gpu` to {len(needs)} peaks on {result.device}")


def _machine(device: str, command: str) -> GpuResult:
    cuda = torch.device(device).type == "cuda"
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    if cuda:
        versions |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
    return GpuResult(
        device=torch.cuda.get_device_name(device) if cuda else "cpu",
        memory_bytes=torch.cuda.get_device_properties(device).total_memory if cuda else 0,
        processor=processor(),
        versions=versions,
        command=command,
    )
