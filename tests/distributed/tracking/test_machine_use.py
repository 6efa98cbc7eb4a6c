"""The use of the machine, now and then."""

import time

import numpy as np
import pytest
import torch

from ossnet.distributed.tracking.actor import MetricBuffer
from ossnet.distributed.tracking.machine_use import MachineUse

_OF_A_GPU = {"system/gpu_memory_usage_percentage", "system/gpu_utilization_percentage"}


def test_samples_are_taken_when_they_are_due() -> None:
    clock = iter([0.0, 9.0, 12.0, 21.0, 22.0])
    use = MachineUse(every_s=10, now=lambda: next(clock))
    found = [bool(use.sample()) for _ in range(4)]
    assert found == [False, True, False, True]


def test_work_and_memory_are_seen() -> None:
    use = MachineUse(every_s=0)
    time.sleep(0.3)
    idle = use.sample()
    until = time.process_time() + 0.3
    while time.process_time() < until:
        pass
    kept = np.ones(2**26)
    busy = use.sample()
    assert busy["system/process_cpu_cores"] > idle["system/process_cpu_cores"] + 0.05
    grown = busy["system/process_memory_gib"] - idle["system/process_memory_gib"]
    assert grown == pytest.approx(kept.nbytes / 2**30, rel=0.2)
    for name in ("cpu_utilization_percentage", "system_memory_usage_percentage"):
        assert 0 < busy[f"system/{name}"] <= 100


@pytest.mark.gpu
def test_a_gpu_is_sampled() -> None:
    torch.zeros(1, device="cuda")
    found = MachineUse(every_s=0).sample()
    assert found.keys() >= _OF_A_GPU
    assert all(0 <= found[name] <= 100 for name in _OF_A_GPU)


def test_a_run_logs_it_with_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = MetricBuffer(None, "run", every_s=1e9)  # type: ignore[arg-type] # nothing is sent
    monkeypatch.setattr(buffer, "_use", MachineUse(every_s=0))
    buffer.add({"loss/train": 0.5}, 7)
    assert {point.step for point in buffer._points} == {7}
    assert {"loss/train", "system/process_memory_gib"} <= {point.name for point in buffer._points}
