"""Exported networks give the logits of the real ones, by a runtime independent of them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ossnet.data import Task
from ossnet.errors import UserError
from ossnet.inference import InferenceConfig, Predictor
from ossnet.inference.export.onnx import export_onnx
from ossnet.models import OccupancyNetwork, build_network
from ossnet.models.exportable import PlainDecoder, PlainEncoder
from ossnet.sampling import SamplingConfig
from ossnet.sampling.downscale import downscale_planes

GRID = (24, 16, 16)
SLOW = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("o-net", "oss-net-a", "feature-query-patch", "feature-pyramid")
]


def occupancy(name: str) -> OccupancyNetwork:
    """Small, and its statistics have seen something."""
    torch.manual_seed(0)
    sizes = {"encoder_channels": (4, 8), "latent_grid": (3, 2, 2), "decoder_width": 16, "decoder_blocks": 2}
    network = build_network(name, in_channels=2, classes=2, patch_edge=3, **sizes)
    assert isinstance(network, OccupancyNetwork)
    for _ in range(3):
        volume, points, patches = some(network, 40)
        network(downscale_planes(volume[0].unbind(1), GRID, 2)[None], points, patches, GRID)
    return network.eval()


def some(network: OccupancyNetwork, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    channels = network.config.patch_channels
    patches = torch.randn(1, count, channels, 3, 3, 3) if channels else None
    return torch.randn(1, 2, *GRID), torch.rand(1, count, 3) * 2 - 1, patches


def predictor(network: nn.Module) -> Predictor:
    task = Task(modalities=("one", "two"), labels={"a": 1, "b": 2})
    return Predictor(network, task, SamplingConfig(working_shape=GRID), InferenceConfig())


@pytest.mark.parametrize(
    "name", ["o-net", "oss-net-a", "oss-net-c", "oss-net-d", "feature-query-patch", "feature-pyramid"]
)
def test_the_plain_network_is_the_real_one(name: str) -> None:
    network = occupancy(name)
    volume, points, patches = some(network, 50)
    with torch.no_grad():
        latent = network.encode(downscale_planes(volume[0].unbind(1), GRID, 2)[None])
        vectors, *rest = PlainEncoder(network)(volume)
        coarse, maps = (rest[0], rest[1:]) if network.config.auxiliary_head else (None, rest)
        torch.testing.assert_close(vectors, latent.vectors, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(coarse, latent.auxiliary, atol=1e-5, rtol=1e-4)
        found = PlainDecoder(network, GRID)(vectors, points, patches, maps)
        expected = network.decode(latent, points, patches, GRID)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.01


@pytest.mark.parametrize("name", ["oss-net-d", *SLOW])
def test_encoder_and_decoder_in_another_runtime(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs ossnet[onnx]")
    pytest.importorskip("onnxscript", reason="needs ossnet[onnx]")
    network = occupancy(name)
    files = export_onnx(predictor(network), tmp_path / "out")
    assert [path.name for path in files] == ["encoder.onnx", "decoder.onnx", "network.json"]
    assert set(files) == set((tmp_path / "out").iterdir())
    about = json.loads(files[-1].read_text())
    assert about["working_shape"] == list(GRID)
    encoder, decoder = (runtime.InferenceSession(path) for path in files[:2])
    for count in (1, 70):
        volume, points, patches = some(network, count)
        outputs = encoder.run(None, {"image": volume.numpy()})
        known = dict(zip(about["outputs"]["encoder"], outputs, strict=True))
        known |= {"coordinates": points.numpy()}
        known |= {} if patches is None else {"patches": patches.numpy()}
        (logits,) = decoder.run(None, {each: known[each] for each in about["inputs"]["decoder"]})
        with torch.no_grad():
            latent = network.encode(downscale_planes(volume[0].unbind(1), GRID, 2)[None])
            expected = network.decode(latent, points, patches, GRID)
        np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("unet-3d", marks=pytest.mark.slow),
        pytest.param("residual-encoder-unet", marks=pytest.mark.slow),
        "unet-2d",
    ],
)
def test_unets_in_another_runtime(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs ossnet[onnx]")
    pytest.importorskip("onnxscript", reason="needs ossnet[onnx]")
    network = build_network(name, in_channels=2, classes=2, channels=(4, 4, 8, 8)).eval()
    path, _ = export_onnx(predictor(network), tmp_path)
    image = torch.randn(1, 2, *GRID[: network.config.spatial_dims])
    (logits,) = runtime.InferenceSession(path).run(None, {"image": image.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(logits, network(image), atol=1e-4, rtol=1e-4)


def test_without_the_packages_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ossnet.inference.export.onnx.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"install ossnet\[onnx\]"):
        export_onnx(predictor(occupancy("o-net")), tmp_path / "out")
    assert not (tmp_path / "out").exists()
