"""Predicted peaks of training steps against measured ones, and all that the GPU needs for them."""

from collections.abc import Iterator

import torch

from ossnet.benchmarks.config import NetworksBenchmarkConfig, Shape, shape_name
from ossnet.benchmarks.gpu.results import PeakRow, Problem
from ossnet.benchmarks.gpu.sizes import Sizes
from ossnet.benchmarks.gpu.study import problem
from ossnet.benchmarks.machine import release_memory
from ossnet.benchmarks.networks.measure import configure
from ossnet.memory.device import resolve_device
from ossnet.planning import measure, predict

PART = "memory"


def compare(sizes: Sizes, device: str) -> Iterator[PeakRow | Problem]:
    """Predict and measure every network: in float32 and bf16, at one resolution after the other."""
    for shape in sizes.memory_shapes:
        for precision in ("float32", "bf16"):
            for name in sizes.networks:
                try:
                    yield _row(name, shape, precision, sizes, device)
                except Exception:
                    yield problem(PART, f"{name}, {shape_name(shape)}, {precision}")


def _row(name: str, shape: Shape, precision: str, sizes: Sizes, device: str) -> PeakRow:
    settings = NetworksBenchmarkConfig(points=sizes.points, batch_size=sizes.memory_batch)
    config = configure(name, shape, settings).replace({"training.precision": precision})
    place = resolve_device(device)
    predicted = predict(config)
    release_memory(place)
    try:
        measured = measure(config, device=device)
        outside = outside_memory(place)
    finally:
        release_memory(place)
    return PeakRow(
        network=name,
        shape=shape,
        precision=precision,
        volumes=sizes.memory_batch,
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
