"""The check of a GPU: on the CPU at small sizes, its parts when they fail or hang, and the margin."""

import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cuda_stand_in import CUDA, FREE, NAME, RESERVED, TOTAL, stand_in_for_cuda

from ossnet.benchmarks.gpu import check
from ossnet.benchmarks.gpu.__main__ import _keep_margin, main
from ossnet.benchmarks.gpu.check import Part, _machine, _margin, _run_apart
from ossnet.benchmarks.gpu.gpu_tests import run_tests
from ossnet.benchmarks.gpu.peaks import outside_memory
from ossnet.benchmarks.gpu.results import GpuResult, ParityRow, PartRecord, PeakRow, Problem, PytestRow
from ossnet.benchmarks.gpu.sizes import SMALL, Sizes
from ossnet.benchmarks.machine import release_memory
from ossnet.benchmarks.timer import DeviceTimer
from ossnet.models import PRESETS

GOOD = ParityRow("batch", "oss-net-c", "", "labels", 0.0, 0.0)


def peak(network: str, predicted: int) -> PeakRow:
    return PeakRow(network, (8, 8, 8), "float32", 1, predicted, predicted, predicted, 10**9)


@pytest.mark.slow
def test_the_whole_check_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    margin = tmp_path / "margin.json"
    assert main(["--device", "cpu", "--output", str(tmp_path), "--margin", str(margin)]) == 0
    result = GpuResult.read(tmp_path / "gpu-cpu.json")
    assert [part.name for part in result.parts] == ["tests", "parity", "memory", "training", "inference"]
    assert {part.status for part in result.parts} == {"done"}
    assert {row.outcome for row in result.tests} == {"skipped"}
    assert (
        {row.network for row in result.parity} == {row.network for row in result.peaks} == set(SMALL.networks)
    )
    assert {row.values for row in result.parity} >= {"coordinates", "patches", "image", "logits", "gradients"}
    for row in result.peaks:
        assert row.predicted_bytes == pytest.approx(row.allocated_bytes, rel=0.1)
    (step,) = result.steps
    assert step.step_s > 0
    assert 0 <= step.wait_fraction <= 1
    assert min(step.host_s, step.draw_s, step.first_batch_s) > 0
    assert {row.wrong for row in result.volumes} == {0}
    assert result.margin is None
    assert not margin.exists()
    for name in ("gpu-cpu-memory.png", "gpu-cpu-times.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert "CPU against device" in capsys.readouterr().out


def test_without_a_gpu_it_says_what_it_would_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--output", str(tmp_path)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("no CUDA device here")
    assert f"{tmp_path}/gpu-NAME.json" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_missing_is_a_mistake(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--device", "cuda", "--output", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "device 'cuda'" in line


def test_a_file_of_something_else_is_not_overwritten(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gpu-cpu.json").write_text('{"mine": 1}')
    assert main(["--device", "cpu", "--output", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert json.loads((tmp_path / "gpu-cpu.json").read_text()) == {"mine": 1}


def fine(sizes: Sizes, device: str) -> Iterator[ParityRow]:
    yield replace(GOOD, options=device)


def broken(sizes: Sizes, device: str) -> Iterator[ParityRow]:
    yield GOOD
    raise RuntimeError("device-side assert")


def lost(sizes: Sizes, device: str) -> Iterator[ParityRow]:
    yield GOOD
    time.sleep(0.5)
    os._exit(7)


def hanging(sizes: Sizes, device: str) -> Iterator[ParityRow]:
    yield GOOD
    time.sleep(600)


def test_a_part_that_fails_or_hangs_loses_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes, kept = replace(SMALL, time_factor=1), list[GpuResult]()
    row = PytestRow("test", "passed", 0.0)
    monkeypatch.setattr(check.gpu_tests, "run_tests", lambda *_: iter([row]))
    parts = [Part(work.__name__, 300, work) for work in (broken, lost, fine)]
    result = check.check_device(sizes, "cpu", command="", keep=kept.append, parts=parts)
    assert [part.status for part in result.parts] == ["done", "done", "failed", "done"]
    assert len(result.parity) == 3
    assert "device-side assert" in result.problems[0].error
    assert "exit code 7" in result.problems[1].error
    assert kept[-1] == result
    assert len(kept) == 4
    assert not result.passed
    _, record = _run_apart(Part("hanging", 2, hanging), sizes, "cpu")
    assert record.status == "out of time"
    assert not multiprocessing.active_children()


def test_what_passes(tmp_path: Path) -> None:
    done = (PartRecord("parity", "done", 1.0),)
    result = replace(_machine("cpu", ""), parts=done, parity=(GOOD,))
    assert result.passed
    assert not replace(result, parts=(PartRecord("parity", "out of time", 1.0),)).passed
    for error in (1e-9, float("nan"), float("inf")):
        different = replace(result, parity=(GOOD, replace(GOOD, error=error)))
        assert not different.passed
        assert "oss-net-c labels" in str(different.summary())
    assert not replace(result, problems=(Problem("parity", "x", "y"),)).passed
    assert not replace(result, tests=(PytestRow("t", "failed", 0.0),)).passed
    result.write(tmp_path / "result.json")
    assert GpuResult.read(tmp_path / "result.json") == result


def test_tests_are_run_and_read(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu\n")
    (tmp_path / "tests" / "test_some.py").write_text(
        "import pytest\n"
        "@pytest.mark.gpu\ndef test_good(): pass\n"
        "@pytest.mark.gpu\ndef test_bad(): assert 1 == 2\n"
        "@pytest.mark.gpu\n@pytest.mark.skip('why')\ndef test_not(): pass\n"
        "def test_other(): assert False\n"
    )
    (tmp_path / "tests" / "test_upstairs.py").write_text("import no_such_module\n")
    rows = [row for row in run_tests(tmp_path, 120) if isinstance(row, PytestRow)]
    assert {row.name.rsplit(".")[-1]: row.outcome for row in rows} == {
        "test_good": "passed",
        "test_bad": "failed",
        "test_not": "skipped",
    }
    (problem,) = run_tests(tmp_path / "tests", 1)
    assert isinstance(problem, Problem)


def test_the_margin_is_kept_only_when_it_stands_for_every_network(tmp_path: Path) -> None:
    path, gpu = tmp_path / "margin.json", replace(_machine("cpu", ""), device=NAME)
    assert _margin(gpu) is None
    some = replace(gpu, peaks=(peak("oss-net-c", 10**9),))
    some = replace(some, margin=_margin(some))
    assert "unet-3d" in _keep_margin(some, path)
    assert not path.exists()
    every = replace(gpu, peaks=tuple(peak(name, 10**9 * (1 + n)) for n, name in enumerate(PRESETS)))
    margin = _margin(every)
    assert margin is not None
    assert NAME in margin.source
    for row in every.peaks:
        assert margin.needed(row.predicted_bytes) >= 1.05 * row.needed_bytes
    assert "kept in" in _keep_margin(replace(every, margin=margin), path)
    assert json.loads(path.read_text())["factor"] == margin.factor
    assert _margin(replace(every, device="cpu")) is None


def test_what_is_read_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    device = stand_in_for_cuda(monkeypatch)
    machine = _machine("cuda", "make gpu")
    assert (machine.device, machine.memory_bytes) == (NAME, TOTAL)
    assert machine.versions["cuda"] == str(torch.version.cuda)
    assert outside_memory(CUDA) == TOTAL - FREE - RESERVED
    release_memory(CUDA)
    assert device.calls["empty_cache"] == 1
    timer = DeviceTimer(CUDA)
    for _ in range(3):
        timer.record()
    assert timer.elapsed() == [1.0, 1.0]
