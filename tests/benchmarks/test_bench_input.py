"""Ways to prepare samples: the same samples where nothing is random, complete rows, bad input."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ossnet.benchmarks import InputBenchmarkConfig, InputResult, InputRow, measure_input
from ossnet.benchmarks.input.monai_samples import persistent_dataset
from ossnet.benchmarks.input.nnunet_samples import nnunet_import_error
from ossnet.benchmarks.input.reference_samples import (
    ReferenceDataset,
    border_band,
    read_image,
    read_label,
    write_borders,
)
from ossnet.benchmarks.input.results import draw, show
from ossnet.data import Case, read_source, write_phantom
from ossnet.errors import UserError
from ossnet.models import OccupancyConfig, network_config
from ossnet.sampling.grid import offset
from ossnet.sampling.patches import PatchSource

TINY: dict[str, Any] = {
    "cases": 2,
    "shape": "20x18x16",
    "points": 40,
    "repeats": 2,
    "step_s": (0.01,),
    "batch_size": 2,
}
MULTIPLE = 8  # what the edges of the model's working grid are multiples of


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, ...]:
    folder = write_phantom(tmp_path_factory.mktemp("bench") / "scans", 2, (20, 18, 16))
    return read_source(folder).cases


@pytest.fixture(scope="module")
def result() -> InputResult:
    rows: list[InputRow] = []
    settings = InputBenchmarkConfig(networks=("oss-net-d", "o-net"), **TINY)
    measured = measure_input(settings, command="python jobs/bench.py input", progress=rows.append)
    assert tuple(rows) == measured.rows
    return measured


def model() -> OccupancyConfig:
    config = network_config("oss-net-d", in_channels=4, patch_edge=5, encoder_channels=(4, 8))
    assert isinstance(config, OccupancyConfig)
    return config


def check(sample: dict[str, torch.Tensor], case: Case, settings: InputBenchmarkConfig) -> None:
    """Points, labels, patches and the encoder's input are those of the case in its frame."""
    image, label = read_image(case), read_label(case)
    working = [2 * edge for edge in sample["encoder_input"].shape[1:]]
    points = sample["coordinates"].long() - torch.tensor(offset(label.shape, working))
    inside = ((points >= 0) & (points < torch.tensor(label.shape))).all(1)
    inner = points[inside]
    assert len(points) == settings.points
    assert torch.equal(sample["labels"][inside], label[tuple(inner.T)].float())
    assert not sample["labels"][~inside].any()
    near = border_band(label)[tuple(inner.T)]
    assert near.sum() >= settings.points // 2
    source = PatchSource(image, edge=5, local=True, mid_range=True)
    torch.testing.assert_close(sample["patches"][inside], source.gather(inner), atol=1e-5, rtol=1e-5)
    assert float(sample["encoder_input"].sum()) * 8 == pytest.approx(float(image.sum()), abs=0.05)


def test_the_baselines_prepare_what_the_reference_does(cases: tuple[Case, ...], tmp_path: Path) -> None:
    settings = InputBenchmarkConfig(augment=False, **TINY)
    write_borders(cases, tmp_path)
    dataset = ReferenceDataset(cases, tmp_path, model(), settings, MULTIPLE)
    cached = persistent_dataset(cases, tmp_path / "cache", model(), settings, MULTIPLE)
    for index, case in enumerate(cases):
        check(dataset[index], case, settings)
        for _ in range(2):  # from the files, and from the cache
            check(cached[index], case, settings)
    assert len(dataset.reading) == 2


def test_augmentation_changes_the_baselines_samples(cases: tuple[Case, ...], tmp_path: Path) -> None:
    settings = InputBenchmarkConfig(**TINY)
    write_borders(cases, tmp_path)
    cached = persistent_dataset(cases, tmp_path / "cache", model(), settings, MULTIPLE)
    cached.transform.set_random_state(seed=0)
    for dataset in (ReferenceDataset(cases, tmp_path, model(), settings, MULTIPLE), cached):
        torch.manual_seed(0)
        inputs = {dataset[0]["encoder_input"].numpy().tobytes() for _ in range(12)}
        assert len(inputs) > 6


def test_rows_are_complete(result: InputResult) -> None:
    others = ("nnunet",) if nnunet_import_error() is None else ()
    assert [(row.network, row.pipeline) for row in result.rows] == [
        (network, pipeline)
        for network in ("oss-net-d", "o-net")
        for pipeline in ("ossnet", "nibabel", "monai", "monai-threads", *others)
    ]
    for row in result.rows:
        assert row.volumes_per_s * row.sample_s == pytest.approx(1)
        assert row.points_per_s == pytest.approx(40 * row.volumes_per_s)
        ossnet = next(each for each in result.rows if each.network == row.network)
        assert row.times_ossnet == pytest.approx(row.sample_cpu_s / ossnet.sample_cpu_s)
        assert (row.reading_s is not None) == (row.pipeline == "nibabel")
        assert row.reading_s is None or 0 < row.reading_s < row.sample_s
        assert row.once_s > 0
    assert result.sent_bytes == 20 * 18 * 16 * (4 * 2 + 1)
    assert [row.threads for row in result.host] == [1, 2]
    assert all(row.volume_s * row.volumes_per_s == pytest.approx(1) for row in result.host)
    assert [(row.steps_per_batch, row.on_device) for row in result.waits] == [
        (1, False), (4, False), (1, True)
    ]  # fmt: skip
    assert result.shapes == ((20, 18, 16), (20, 18, 16))
    assert result.channels == 4
    assert result.source == "phantom"


def test_json_table_and_picture(
    result: InputResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "input.json"
    result.write(path)
    assert InputResult.read(path) == result
    path.write_text("{")
    with pytest.raises(UserError, match=r"input\.json: expected JSON"):
        InputResult.read(path)
    show(result)
    lines = capsys.readouterr().out.splitlines()
    table, host = lines[: len(result.rows) + 1], lines[len(result.rows) + 1 :]
    assert [line.split()[1] for line in table] == ["pipeline", *(row.pipeline for row in result.rows)]
    assert [line.split()[0] for line in host] == ["loader", "1", "2", "step", "0.01", "0.01", "0.01"]
    with Image.open(io.BytesIO(draw(result))) as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"networks": ("oss-net-e",)}, "expected a known network, found 'oss-net-e'; did you mean 'oss-net-"),
        ({"networks": ("unet-2d",)}, "expected occupancy networks, which train on points, found unet-2d"),
        ({"networks": ()}, "networks: expected one or more, found none"),
        ({"shape": "64x64"}, "shape '64x64': expected three positive edges in voxels"),
        ({"border_fraction": 1.5}, "border-fraction: expected a number from 0 to 1, found 1.5"),
        ({"cases": 0}, "cases: expected at least 1, found 0"),
        ({"threads": 0}, "threads: expected at least 1, found 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        InputBenchmarkConfig(**fields)
