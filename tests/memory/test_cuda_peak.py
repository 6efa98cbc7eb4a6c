"""Peaks of a CUDA device, read from its allocator; here the CPU stands in for one."""

import pytest
import torch
from cuda_stand_in import CUDA, NAME, stand_in_for_cuda

from ossnet.memory import track_peak
from ossnet.memory.tracker import ACTIVATIONS, CudaPeak


def test_the_allocators_figures_are_taken_and_its_retries_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    device = stand_in_for_cuda(monkeypatch)
    device.calls["retries"] = 3
    with track_peak(CUDA, resident={"batch": [torch.zeros(1024)]}, precision="bf16") as peak:
        assert isinstance(peak, CudaPeak)
        device.calls["retries"] += 2
    memory = peak.memory
    assert (memory.allocated, memory.reserved) == (5000, 8000)
    assert sum(memory.parts.values()) == 5000
    assert ACTIVATIONS in memory.parts
    assert (memory.retries, memory.out_of_memory) == (2, 0)
    assert (memory.device, memory.precision) == (NAME, "bf16")
    assert memory.versions["torch"] == torch.__version__
    assert device.calls["reset"] == 1
