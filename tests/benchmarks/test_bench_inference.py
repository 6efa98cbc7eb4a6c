"""Ways to predict: answers of a known shape, complete rows, bad input."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ossnet.benchmarks import InferenceBenchmarkConfig, InferenceResult, InferenceRow, measure_inference
from ossnet.benchmarks.inference.known_shape_network import KnownShapeNetwork, ellipsoid, scan
from ossnet.benchmarks.inference.results import PublishedTiming, draw, show, summary
from ossnet.errors import UserError
from ossnet.inference import InferenceConfig, predict_volume
from ossnet.inference.config import Method
from ossnet.models import network_config
from ossnet.sampling import SamplingConfig
from ossnet.sampling.grid import pad

SMALL = {"decoder_width": 16, "decoder_blocks": 2, "patch_edge": 3, "encoder_channels": (4, 8)}


@pytest.fixture(scope="module")
def result() -> InferenceResult:
    rows: list[InferenceRow] = []
    settings = InferenceBenchmarkConfig(
        networks=("oss-net-c", "unet-3d"),
        shapes=("64x48x48",),
        methods=("hierarchical", "dense"),
        precision=("float32",),
        dense_voxels=2000,
        points_per_chunk=1024,
        window="32x32x32",
    )
    measured = measure_inference(settings, command="python jobs/bench.py inference", progress=rows.append)
    assert tuple(rows) == measured.rows
    return measured


@pytest.mark.parametrize("method", ["dense", "hierarchical", "paper"])
def test_the_oracle_answers_for_its_shape(method: Method) -> None:
    """In a frame larger than the volume, at few points."""
    shape, grid = (50, 44, 40), (56, 48, 40)
    inside = ellipsoid(shape)
    network = KnownShapeNetwork(
        network_config("oss-net-c", dataset="brats", **SMALL), pad(inside, grid)
    ).eval()
    found = predict_volume(
        network,
        scan(inside, 4),
        sampling=SamplingConfig(working_shape=grid),
        settings=InferenceConfig(method, dense_max_voxels=0),
    )
    assert torch.equal(found.classes.bool(), inside)
    assert found.n_queried == inside.numel() if method == "dense" else found.n_queried < 0.2 * inside.numel()


def test_the_ellipsoid_is_as_large_in_every_volume() -> None:
    shares = [ellipsoid(shape).float().mean().item() for shape in ((128, 128, 128), (240, 240, 155))]
    assert shares == pytest.approx([4 / 3 * np.pi * 24 * 18 * 12 / 128**3] * 2, rel=0.01)


def test_rows_are_complete(result: InferenceResult) -> None:
    hierarchical, dense, unet = result.rows
    voxels = 64 * 48 * 48
    assert [row.method for row in result.rows] == ["hierarchical", "dense", "windows"]
    assert hierarchical.wrong == 0
    assert hierarchical.timed_points == hierarchical.points < voxels
    assert (dense.points, dense.timed_points, dense.wrong) == (voxels, 2016, None)  # rows of 48
    assert (unet.points, unet.timed_points, unet.wrong) == (voxels, 32**3, None)
    for row in result.rows:
        assert row.foreground == int(ellipsoid((64, 48, 48)).sum())
        assert row.cpu_s > 0
        assert row.reference is None
        assert row.peak_bytes is not None
        assert row.resident_bytes is not None
        assert row.peak_bytes >= row.resident_bytes > 2**26
    assert set(result.gflops) == {"float32", "bf16"}


def test_a_deep_u_net_is_timed_too() -> None:
    """Its warm-up must see a cube that every level can halve."""
    settings = InferenceBenchmarkConfig(
        networks=("residual-encoder-unet",), shapes=("72x64x40",), window="64x64x64", precision=("float32",)
    )
    (row,) = measure_inference(settings, command="", progress=lambda _: None).rows
    assert (row.method, row.points) == ("windows", 72 * 64 * 40)
    assert row.cpu_s > 0


def test_json_table_and_picture(
    result: InferenceResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "inference.json"
    result.write(path)
    assert InferenceResult.read(path) == result
    show(result)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines] == ["method", *(row.method for row in result.rows)]
    assert summary(result.rows[1]).startswith("oss-net-c 64x48x48 dense float32: ")
    with Image.open(io.BytesIO(draw(result))) as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10


def test_the_reference_is_drawn_too(result: InferenceResult) -> None:
    from dataclasses import replace

    rows = [replace(row, reference=PublishedTiming(15.3, 8.3)) for row in result.rows]
    taller = Image.open(io.BytesIO(draw(replace(result, rows=tuple(rows)))))
    assert taller.height > Image.open(io.BytesIO(draw(result))).height


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"networks": ("oss-net-e",)}, "expected a known network, found 'oss-net-e'; did you mean 'oss-net-"),
        ({"methods": ()}, "methods: expected one or more, found none"),
        ({"shapes": ("64x64",)}, "shape '64x64': expected three positive edges in voxels"),
        ({"dense_voxels": 0}, "dense-voxels: expected at least 1, found 0"),
    ],
)
def test_what_cannot_be_measured_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        InferenceBenchmarkConfig(**fields)


def test_a_network_without_a_coarse_prediction_cannot_be_guided_by_it() -> None:
    settings = InferenceBenchmarkConfig(networks=("oss-net-a",), methods=("paper-guided",))
    with pytest.raises(UserError, match="paper-guided, found oss-net-a"):
        measure_inference(settings, command="", progress=print)
