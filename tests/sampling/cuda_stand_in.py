"""A CPU in the place of a CUDA device: the lines that only run on one run here, with tensors on the CPU."""

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

CUDA = torch.device("cuda", 0)
NAME = "NVIDIA Stand-In 1"
TOTAL, FREE, RESERVED = 80 * 10**9, 70 * 10**9, 6 * 10**9
SHARE = 0.5
"""Part of the device that the process may use."""


@dataclass
class StandIn:
    """What was asked of the device."""

    calls: Counter[str] = field(default_factory=Counter)
    recorded: set[int] = field(default_factory=set)
    """Addresses of tensors that a stream was recorded for."""

    def stream(self, *_: object) -> "StandIn":
        self.calls["stream"] += 1
        return self

    def synchronize(self, *_: object) -> None:
        self.calls["synchronize"] += 1

    def record_stream(self, tensor: torch.Tensor, _: object) -> None:
        self.recorded.add(tensor.data_ptr())


class Event:
    """An event a second after the one before."""

    now = 0.0

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing

    def record(self, _: object) -> None:
        Event.now += 1.0
        self.at = Event.now

    def elapsed_time(self, after: "Event") -> float:
        return 1000 * (after.at - self.at)


def stand_in_for_cuda(patch: pytest.MonkeyPatch) -> StandIn:
    """Replace what has no meaning without a device; all else is as it is."""
    device, empty = StandIn(), torch.empty

    def pinned_empty(*shape: Any, pin_memory: bool = False, **options: Any) -> torch.Tensor:
        device.calls["pinned"] += pin_memory
        return empty(*shape, **options)

    patch.setattr(torch, "empty", pinned_empty)
    patch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: device.record_stream(tensor, stream))
    for name, value in {
        "Stream": device.stream,
        "current_stream": device.stream,
        "stream": nullcontext,
        "device": nullcontext,
        "synchronize": device.synchronize,
        "empty_cache": lambda: device.calls.update(["empty_cache"]),
        "Event": Event,
        "get_device_name": lambda *_: NAME,
        "get_device_properties": lambda *_: type("Properties", (), {"total_memory": TOTAL}),
        "get_per_process_memory_fraction": lambda *_: SHARE,
        "mem_get_info": lambda *_: (FREE, TOTAL),
        "memory_reserved": lambda *_: RESERVED,
        "memory_stats": lambda *_: {"num_alloc_retries": device.calls["retries"]},
        "reset_peak_memory_stats": lambda *_: device.calls.update(["reset"]),
        "max_memory_allocated": lambda *_: 5000,
        "max_memory_reserved": lambda *_: 8000,
    }.items():
        patch.setattr(torch.cuda, name, value)
    return device
