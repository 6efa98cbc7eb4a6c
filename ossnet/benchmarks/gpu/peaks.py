"""Predicted peaks of training steps against measured ones, and all that the GPU needs for them."""

from collections.abc import Iterator

import torch

from ossnet.benchmarks.config import NetworksBenchmarkConfig, Shape, shape_name
from ossnet.benchmarks.gpu.results import PeakRow, Problem
from ossnet.benchmarks.gpu.sizes import Sizes
from ossnet.benchmarks.gpu.study import problem
from ossnet.benchmarks.machine import release_memory
from ossnet.benchmarks.networks.measure import configure
from ossnet.memory.available import available_memory
from ossnet.memory.device import resolve_device
from ossnet.planning import measure, predict

PART = "memory"


def compare(sizes: Sizes, device: str) -> Iterator[PeakRow | Problem]:
    """Predict and measure every network: in float32 and bf16, at one resolution after the other.

    What is predicted to take more than the device has is left out: a strong dense network at full size.
    """
    for shape, volumes in sizes.memory:
        for precision in ("float32", "bf16"):
            for name in sizes.networks:
                try:
                    settings = NetworksBenchmarkConfig(points=sizes.points, batch_size=volumes)
                    row = _row(name, shape, precision, settings, resolve_device(device))
                except Exception:
                    yield problem(PART, f"{name}, {shape_name(shape)}, {precision}")
                    continue
                if row is not None:
                    yield row


def _row(
    name: str, shape: Shape, precision: str, settings: NetworksBenchmarkConfig, device: torch.device
) -> PeakRow | None:
    config = configure(name, shape, settings).replace({"training.precision": precision})
    predicted = predict(config)
    release_memory(device)
    if predicted.allocated > available_memory(device):
        return None
    try:
        measured = measure(config, device=str(device))
        outside = outside_memory(device)
    finally:
        release_memory(device)
    return PeakRow(
        network=name,
        shape=shape,
        precision=precision,
        volumes=settings.batch_size,
        predicted_bytes=predicted.allocated,
        allocated_bytes=measured.allocated,
        reserved_bytes=measured.reserved,
        outside_bytes=outside,
    )


def outside_memory(device: torch.device) -> int:
    """Bytes in use on a GPU that this process's caching allocator does not hold; 0 on a CPU."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    return total - free - torch.cuda.memory_reserved(device)
