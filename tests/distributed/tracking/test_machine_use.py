"""The use of the machine, from what Linux says of it, now and then."""

from pathlib import Path

import pytest
import torch

from ossnet.distributed.tracking.actor import MetricBuffer
from ossnet.distributed.tracking.machine_use import MachineUse


def write(processes: Path, *, user: int, idle: int, available: int) -> None:
    (processes / "self").mkdir(exist_ok=True)
    (processes / "stat").write_text(f"cpu  {user} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
    (processes / "meminfo").write_text(
        f"MemTotal: 8000 kB\nMemAvailable: {available} kB\nHugePages_Total: 0\n"
    )
    (processes / "self" / "status").write_text("Name: python\nVmRSS:\t 1048576 kB\nThreads: 4\n")


def test_shares_are_those_since_the_sample_before(tmp_path: Path) -> None:
    time = 0.0
    write(tmp_path, user=100, idle=100, available=8000)
    use = MachineUse(every_s=10, now=lambda: time, processes=tmp_path)
    write(tmp_path, user=130, idle=110, available=6000)
    time = 9.0
    assert use.sample() == {}
    time = 12.0
    found = use.sample()
    assert found["system/cpu_utilization_percentage"] == 75
    assert found["system/system_memory_usage_percentage"] == 25
    assert found["system/process_memory_gib"] == 1
    assert 0 <= found["system/process_cpu_cores"] < 100
    write(tmp_path, user=130, idle=150, available=4000)
    time = 21.0
    assert use.sample() == {}
    time = 22.0
    found = use.sample()
    assert (found["system/cpu_utilization_percentage"], found["system/system_memory_usage_percentage"]) == (
        0,
        50,
    )


def test_on_another_system_only_what_python_knows_is_there(tmp_path: Path) -> None:
    use = MachineUse(every_s=0, processes=tmp_path / "none")
    assert use.sample().keys() <= {"system/process_cpu_cores", *_OF_A_GPU}


_OF_A_GPU = {"system/gpu_memory_usage_percentage", "system/gpu_utilization_percentage"}


@pytest.mark.gpu
def test_a_gpu_is_sampled() -> None:
    torch.zeros(1, device="cuda")
    found = MachineUse(every_s=0).sample()
    assert found.keys() >= _OF_A_GPU
    assert all(0 <= found[name] <= 100 for name in _OF_A_GPU)


def test_a_run_logs_it_with_its_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, user=1, idle=1, available=1)
    buffer = MetricBuffer(None, "run", every_s=1e9)  # type: ignore[arg-type] # nothing is sent
    monkeypatch.setattr(buffer, "_use", MachineUse(every_s=0, processes=tmp_path))
    buffer.add({"loss/train": 0.5}, 7)
    assert {point.step for point in buffer._points} == {7}
    assert {"loss/train", "system/process_memory_gib"} <= {point.name for point in buffer._points}
