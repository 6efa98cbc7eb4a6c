"""Rows of a comparison on tiny volumes: complete, true to the plan's figures, kept, drawn; bad input."""

import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from ossnet.benchmarks import ModelRow, ModelsResult, NetworksBenchmarkConfig, measure_models
from ossnet.benchmarks.config import parse_shape, shape_name
from ossnet.benchmarks.networks import measure as models
from ossnet.benchmarks.networks.figure import draw
from ossnet.benchmarks.networks.measure import configure
from ossnet.benchmarks.networks.table import cells, show, summary
from ossnet.errors import UserError
from ossnet.planning import measure, predict

TINY: dict[str, Any] = {"shapes": ("16x16x16",), "points": 8, "repeats": 1, "threads": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def result() -> ModelsResult:
    rows: list[ModelRow] = []
    names = ("oss-net-c", "unet-2d")
    settings = NetworksBenchmarkConfig(networks=names, precision="bf16", **TINY)
    measured = measure_models(settings, command="python jobs/bench.py", progress=rows.append)
    assert tuple(rows) == measured.rows
    return measured


def test_rows_are_complete(result: ModelsResult) -> None:
    assert [row.network for row in result.rows] == ["oss-net-c", "unet-2d"]
    of_occupancy_alone = {"operations", "roofline_s", "roofline_ratio"}
    for row in result.rows:
        missing = {name for name, value in dataclasses.asdict(row).items() if value is None}
        assert missing == (of_occupancy_alone if row.network.startswith("unet") else set())
        assert row.status == "measured"
        assert row.step_s is not None
        assert row.forward_s is not None
        assert row.backward_s is not None
        assert row.update_s is not None
        assert row.step_s == pytest.approx(row.forward_s + row.backward_s + row.update_s)
        assert row.step_median_s == row.step_s  # of one repeat
        assert row.training_predictions_per_s is not None
        predictions = 16 * 16**2 if row.network == "unet-2d" else 8  # 16 slices, or 8 points
        assert row.training_predictions_per_s * row.step_s == pytest.approx(predictions)


def test_floors_come_from_the_measured_rate(result: ModelsResult) -> None:
    assert set(result.gflops) == {"float32", "bf16"}
    row = result.rows[0]
    assert row.operations is not None
    assert row.roofline_s is not None
    assert row.step_s is not None
    assert "patch_encoder" in row.operations
    work = sum(part.forward + part.backward for part in row.operations.values())
    assert row.roofline_s == pytest.approx(2 * work / (result.gflops["bf16"] * 1e9))
    assert row.roofline_ratio == pytest.approx(row.step_s / row.roofline_s)


def test_memory_is_what_planning_says(result: ModelsResult) -> None:
    settings = NetworksBenchmarkConfig(precision="bf16", **TINY)
    for row in result.rows:
        config = configure(row.network, (16, 16, 16), settings)
        assert row.working_shape == config.sampling.working_shape
        assert row.predicted_bytes == predict(config).allocated
        assert row.peak_bytes == row.reserved_bytes == measure(config, device="cpu").allocated


def test_the_result_says_where_and_how(result: ModelsResult) -> None:
    assert (result.device, result.threads, result.precision) == ("cpu", 1, "bf16")
    assert result.versions["torch"] == torch.__version__
    assert result.processor
    assert "fastest" in result.statistic


def test_json_round_trip(result: ModelsResult, tmp_path: Path) -> None:
    path = tmp_path / "new" / "models.json"
    result.write(path)
    assert ModelsResult.read(path) == result
    assert [each.name for each in path.parent.iterdir()] == ["models.json"]
    path.write_text("{")
    with pytest.raises(UserError, match=r"models\.json: expected JSON"):
        ModelsResult.read(path)


def test_native_size_is_the_papers() -> None:
    for shape in ((256, 256, 160), (240, 240, 155)):
        config = configure("oss-net-c", shape, NetworksBenchmarkConfig(dataset="brats", points=2**14))
        assert config.sampling.working_shape == (256, 256, 160)
        assert (config.model.in_channels, config.sampling.points) == (4, 2**14)
        assert config.training.batch_size == 1
        assert getattr(config.model, "latent_grid") == (8, 8, 5)  # noqa: B009
    assert (
        configure("unet-3d", (256, 256, 160), NetworksBenchmarkConfig(dataset="brats")).model.in_channels == 4
    )


@pytest.mark.parametrize("failure", ["refused", "raised"])
def test_out_of_memory_is_a_row(failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    if failure == "refused":
        monkeypatch.setattr(models, "available_memory", lambda _: 1000.0)
    else:
        monkeypatch.setattr(models, "time_network", exhausted)
    settings = NetworksBenchmarkConfig(networks=("o-net",), **TINY)
    done = measure_models(settings, command="", progress=lambda _: None)
    (row,) = done.rows
    assert row.status == "out of memory"
    assert row.predicted_bytes > 1e6
    assert row.roofline_s is not None
    assert row.step_s is row.peak_bytes is row.roofline_ratio is None
    assert "out of memory" in summary(row)
    assert "out of memory" in cells(row)
    assert draw(done).startswith(b"\x89PNG")


def test_table_and_picture_show_every_row(result: ModelsResult, capsys: pytest.CaptureFixture[str]) -> None:
    show(result)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["network", *(row.network for row in result.rows)]
    with Image.open(io.BytesIO(draw(result))) as picture:
        assert picture.size[0] > picture.size[1] > 500


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"networks": ("oss-net-e",)}, "expected a known network, found 'oss-net-e'; did you mean 'oss-net-"),
        ({"networks": ()}, "networks: expected one or more, found none"),
        ({"shapes": ()}, "shapes: expected one or more, found none"),
        ({"shapes": ("64",)}, "shape '64': expected three positive edges in voxels, as in 64x64x64"),
        ({"shapes": ("64x64x-64",)}, "shape '64x64x-64': expected three positive edges"),
        ({"shapes": ("64x0x64",)}, "shape '64x0x64': expected three positive edges"),
        ({"points": 0}, "points: expected at least 1, found 0"),
        ({"batch_size": 0}, "batch-size: expected at least 1, found 0"),
        ({"repeats": -1}, "repeats: expected at least 1, found -1"),
        ({"threads": 0}, "threads: expected at least 1, found 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        NetworksBenchmarkConfig(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"shapes": ("16x16x16", "1x1x1")},
            "shapes: expected a shape that oss-net-c reduces to two cells or more, found 1x1x1",
        ),
        (
            {"dataset": "brats", "shapes": ("32x32x32",)},
            "expected a shape that .* reduces to two cells or more, found 32x32x32; give an edge above 32",
        ),
        ({"device": "gpu"}, "device 'gpu': expected cpu, or cuda"),
        ({"device": "cuda:99"}, "device 'cuda:99': expected cpu, or cuda"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        measure_models(
            NetworksBenchmarkConfig(**{**TINY, "networks": ("oss-net-c",), **fields}),
            command="",
            progress=lambda _: pytest.fail("something ran"),
        )
    assert "\n" not in str(caught.value)


def test_shapes_read_as_they_are_written() -> None:
    assert parse_shape(shape_name((256, 240, 155))) == (256, 240, 155)


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    settings = NetworksBenchmarkConfig(networks=("oss-net-d", "unet-3d"), **{**TINY, "device": "cuda"})
    done = measure_models(settings, command="", progress=lambda _: None)
    assert done.device == torch.cuda.get_device_name()
    for row in done.rows:
        assert row.step_s is not None
        assert row.step_s > 0
        assert row.peak_bytes is not None
        assert row.peak_bytes <= (row.reserved_bytes or 0)
