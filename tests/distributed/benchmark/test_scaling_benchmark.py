"""How numbers of workers are compared with each other."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ossnet.benchmarks import ScalingBenchmarkConfig
from ossnet.distributed.benchmark.scaling import measure_scaling
from ossnet.distributed.benchmark.scaling_results import ScalingResult, ScalingRow, draw, show
from ossnet.errors import UserError


def compared(*rows: ScalingRow) -> ScalingResult:
    return ScalingResult(
        "a CPU", 2, {}, None, "9 cases", "0a1b", "oss-net-c", 1000, 8, 10, "", "ossnet bench", rows
    )


ROWS = (
    ScalingRow(1, 2, repeat=0, cpu_s=1.0, wall_s=1.0),
    ScalingRow(2, 1, repeat=0, cpu_s=1.25, wall_s=0.625),
    ScalingRow(1, 2, repeat=1, cpu_s=3.0, wall_s=4.0),  # the machine was busy with other work
    ScalingRow(2, 1, repeat=1, cpu_s=3.0, wall_s=2.0),
    ScalingRow(1, 2, repeat=2, cpu_s=0.9, wall_s=0.9),
    ScalingRow(2, 1, repeat=2, cpu_s=1.0, wall_s=0.5),
)


def test_trainings_are_compared_within_a_repeat() -> None:
    alone, together = compared(*ROWS).numbers()
    assert (alone.workers, alone.efficiency.median, alone.speed.median) == (1, 1.0, 1.0)
    assert (together.cpu_s, together.wall_s) == (1.25, 0.625)
    found = together.efficiency
    assert (found.median, found.lowest, found.highest) == pytest.approx((0.9, 0.8, 1.0))
    assert together.speed.median == pytest.approx(1.8)


def test_it_is_written_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = compared(*ROWS)
    result.write(tmp_path / "scaling.json")
    assert ScalingResult.read(tmp_path / "scaling.json") == result
    assert result.summary()["efficiency"] == "0.900 (0.800 to 1.000) with 2 workers, against 1"
    show(result)
    *_, last = capsys.readouterr().out.splitlines()
    assert last.split()[:4] == ["2", "1", "1.25", "0.900"]
    assert draw(result).startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": (2,)}, "workers: expected two or more numbers, each of them once, found 2"),
        ({"workers": (1, 2, 2)}, "workers: expected .*, found 1 2 2"),
        ({"workers": (0, 2)}, "workers: expected .*, found 0 2"),
        ({"steps": 0}, "steps: expected at least 1"),
        ({"model": "oss-net-x"}, "model: .*oss-net"),
    ],
)
def test_what_cannot_be_compared_is_rejected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ScalingBenchmarkConfig(**options)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_workers_are_measured(phantom_store: Path, tmp_path: Path) -> None:
    settings = ScalingBenchmarkConfig(data=phantom_store, batch_size=4, steps=3, repeats=1)
    rows = list[ScalingRow]()
    result = measure_scaling(settings, tmp_path, command="", progress=rows.append)
    assert result.rows == tuple(rows)
    assert [(row.workers, row.trainings) for row in rows] == [(1, 2), (2, 1)]
    assert result.steps == 4  # two of each epoch
    _, together = result.numbers()
    assert 0.4 < together.efficiency.median < 1.6  # as few steps on a busy machine tell
    assert min(row.cpu_s for row in rows) > 0
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"expected a volume for each of the 2 workers, found 1"):
        measure_scaling(replace(settings, batch_size=1), tmp_path, command="", progress=rows.append)
