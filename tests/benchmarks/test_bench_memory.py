"""Predictions over random configurations, and how they are shown."""

from pathlib import Path
from random import Random

import pytest

from ossnet.benchmarks import MemoryBenchmarkConfig, MemoryResult, measure_memory
from ossnet.benchmarks.memory.random_configs import draw as draw_config
from ossnet.benchmarks.memory.results import MemoryRow, draw, show, summary
from ossnet.errors import UserError
from ossnet.models import PRESETS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def result() -> MemoryResult:
    settings = MemoryBenchmarkConfig(networks=("unet-2d", "oss-net-b"), draws=2, seed=152, device="cpu")
    reported = list[MemoryRow]()
    done = measure_memory(settings, command="bench", progress=reported.append)
    assert tuple(reported) == done.rows
    return done


def test_networks_in_turn_and_within_the_bound(result: MemoryResult, tmp_path: Path) -> None:
    assert [row.network for row in result.rows] == ["unet-2d", "oss-net-b"]
    assert result.device == "cpu"
    for row in result.rows:
        assert abs(row.error) < 0.03
        assert sum(row.parts.values()) == row.predicted_bytes
        assert row.reserved_bytes == row.measured_bytes
    result.write(tmp_path / "memory.json")
    assert MemoryResult.read(tmp_path / "memory.json") == result


def test_table_and_picture_show_every_network(
    result: MemoryResult, capsys: pytest.CaptureFixture[str]
) -> None:
    show(result)
    printed = capsys.readouterr().out
    assert [line.split()[0] for line in printed.splitlines()] == ["network", "unet-2d", "oss-net-b"]
    assert draw(result).startswith(b"\x89PNG")
    assert "predicted" in summary(result.rows[0])
    assert result.summary()["configurations"] == 2


def test_the_kept_result_holds_the_promise() -> None:
    """The run that the documentation shows: 60 configurations and more, every network, errors and time."""
    files = sorted((ROOT / "docs" / "benchmarks").glob("memory*.json"))  # what came later has its own
    rows = [row for file in files for row in MemoryResult.read(file).rows]
    errors = sorted(abs(row.error) for row in rows)
    assert len(errors) >= 60
    assert {row.network for row in rows} == set(PRESETS)
    assert errors[len(errors) // 2] < 0.03
    assert errors[-1] < 0.10
    assert sorted(row.predict_s for row in rows)[len(errors) // 2] < 5


@pytest.mark.parametrize("network", sorted(PRESETS))
def test_draws_differ_and_can_be_built(network: str) -> None:
    random = Random(3)
    drawn = [draw_config(network, random) for _ in range(20)]
    assert len({each.options for each in drawn}) == 20
    assert {each.config.training.precision for each in drawn} == {"float32", "bf16"}
    assert {each.config.model.checkpoint_activations for each in drawn} == {False, True}
    for each in drawn:
        shape = each.config.sampling.working_shape
        assert shape is not None
        assert all(edge % each.config.model.grid_multiple == 0 for edge in shape)
        assert each.workers <= each.config.training.batch_size


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(UserError, match="expected a known network, found 'unet'"):
        MemoryBenchmarkConfig(networks=("unet",))
    with pytest.raises(UserError, match="expected at least 1"):
        MemoryBenchmarkConfig(draws=0)
