"""Predicted peaks of memory against measured ones, over configurations of every network drawn at random."""

import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from random import Random

import torch

from ossnet.benchmarks.config import MemoryBenchmarkConfig
from ossnet.benchmarks.machine import processor, release_memory
from ossnet.benchmarks.memory.random_configs import RandomConfig, draw
from ossnet.benchmarks.memory.results import STATISTIC, MemoryResult, MemoryRow
from ossnet.memory import PROTOCOL, PeakMemory
from ossnet.memory.device import resolve_device
from ossnet.planning import measure, predict


def measure_memory(
    settings: MemoryBenchmarkConfig, *, command: str, progress: Callable[[MemoryRow], None]
) -> MemoryResult:
    """Predict and measure every draw, one after the other.

    Args:
        settings: how many, of which networks.
        command: the command line, stored in the result.
        progress: called with each row when it is measured.

    Raises:
        UserError: no such device; before anything is measured.
    """
    device, random = resolve_device(settings.device), Random(settings.seed)
    draws = [draw(settings.networks[i % len(settings.networks)], random) for i in range(settings.draws)]
    predict(draws[0].config)  # the first one loads torch's own tables
    rows, measured = [], None
    for each in draws:
        row, measured = _row(each, device)
        rows.append(row)
        progress(row)
    assert measured is not None
    return MemoryResult(
        device=measured.device,
        processor=processor(),
        versions={**measured.versions, "python": platform.python_version(), "monai": version("monai")},
        protocol=PROTOCOL,
        seed=settings.seed,
        statistic=STATISTIC,
        command=command,
        rows=tuple(rows),
    )


def _row(drawn: RandomConfig, device: torch.device) -> tuple[MemoryRow, PeakMemory]:
    began = time.process_time()
    predicted = predict(drawn.config, workers=drawn.workers)
    took = time.process_time() - began
    measured = measure(drawn.config, device=str(device), workers=drawn.workers)
    release_memory(device)
    row = MemoryRow(
        network=drawn.config.model.name,
        options=drawn.options,
        workers=drawn.workers,
        parts=dict(predicted.parts),
        predicted_bytes=predicted.allocated,
        measured_bytes=measured.allocated,
        reserved_bytes=measured.reserved,
        predict_s=took,
    )
    return row, measured
