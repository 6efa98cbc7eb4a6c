"""Flips as test-time augmentation: the mean over mirror images, by every network and on any grid."""

import pytest
import torch
from torch import Tensor, nn

from ossnet.data.labels.scheme import ClassScheme
from ossnet.inference import InferenceConfig, VolumePrediction, predict_volume
from ossnet.inference.query.grid import QueryGrid
from ossnet.inference.query.tta import FlipEnsemble, mirrors
from ossnet.models import build_network
from ossnet.sampling import SamplingConfig

SHAPE = (9, 6, 7)
SAMPLING = SamplingConfig(working_shape=(16, 8, 8))


def network(name: str, **fields: object) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"encoder_channels": (4, 8), "latent_grid": (2, 2, 2), "decoder_width": 16, "decoder_blocks": 2}
    small = {"channels": (4, 8), "residual_units": 1} if name == "unet-3d" else {**sizes, "patch_edge": 3}
    return build_network(name, **{**small, "classes": 2, **fields}).eval()


def predict(model: nn.Module, image: Tensor, **settings: object) -> VolumePrediction:
    return predict_volume(
        model,
        image,
        sampling=SAMPLING,
        settings=InferenceConfig(points_per_chunk=100, **settings),
        with_probabilities=True,
    )


def probabilities_of(found: VolumePrediction) -> Tensor:
    assert found.probabilities is not None
    return found.probabilities


@pytest.mark.parametrize(
    ("name", "overlapping"),
    [("o-net", False), ("oss-net-d", False), ("oss-net-c", True), ("unet-3d", False)],
)
def test_probabilities_are_the_mean_over_mirror_images(name: str, overlapping: bool) -> None:
    model, image = network(name, overlapping=overlapping), torch.randn(1, *SHAPE)
    parts = [
        probabilities_of(predict(model, image.flip(axes))).flip(axes) for axes in ((), (1,), (3,), (1, 3))
    ]
    assert (parts[0] - parts[1]).abs().max() > 1e-4
    found = predict(model, image, flips=("R", "S"))
    torch.testing.assert_close(probabilities_of(found), torch.stack(parts).mean(0), atol=1e-5, rtol=1e-4)
    if overlapping:
        expected = (probabilities_of(found) > 0.5).to(torch.uint8)
        assert torch.equal(found.classes, expected[0] + 2 * expected[1])


def test_the_mirror_image_gets_the_mirrored_answer() -> None:
    model, image = network("oss-net-d"), torch.randn(1, *SHAPE)
    one, other = (probabilities_of(predict(model, each, flips=("R",))) for each in (image, image.flip(1)))
    torch.testing.assert_close(one, other.flip(1), atol=1e-5, rtol=1e-4)


def test_flips_and_another_grid_together() -> None:
    """Between voxels of a mirror image, where the first one's place is the last one's."""
    model, image = network("o-net"), torch.randn(1, *SHAPE)
    grid = QueryGrid((3, 4, 2), (1.25, 0.5, 2.0), (2.0, 1.25, 3.0))
    volume = FlipEnsemble(model, image, working=SAMPLING.working_shape, chunk=50, grid=grid, flips=("A",))
    mirrored = grid.mirrored((1,), SHAPE)
    voxels = torch.tensor([[0, 0, 0], [2, 3, 1]])
    expected = grid.positions(voxels)
    expected[:, 1] = SHAPE[1] - 1 - expected[:, 1]
    assert torch.equal(mirrored.positions(voxels), expected)
    with torch.no_grad():
        plain = FlipEnsemble(model, image, working=SAMPLING.working_shape, chunk=50, grid=grid, flips=())
        turned = FlipEnsemble(
            model, image.flip(2), working=SAMPLING.working_shape, chunk=50, grid=mirrored, flips=()
        )
        mean = ClassScheme(2).mean_logits([plain.logits(voxels), turned.logits(voxels)])
        torch.testing.assert_close(volume.logits(voxels), mean)
        whole = tuple(slice(0, edge) for edge in grid.shape)
        every = torch.cartesian_prod(*(torch.arange(edge) for edge in grid.shape))
        torch.testing.assert_close(volume.box(whole), volume.logits(every))


def test_every_combination_of_axes() -> None:
    assert mirrors(()) == [()]
    assert mirrors(("S", "R", "S")) == [(), (0,), (2,), (0, 2)]
    assert len(mirrors(("R", "A", "S"))) == 8


@pytest.mark.parametrize(("logits", "overlapping"), [(1, False), (3, False), (3, True)])
def test_temperature_and_mean_keep_decisions(logits: int, overlapping: bool) -> None:
    values = 8 * torch.randn(500, logits)
    scheme = ClassScheme(logits, overlapping) if logits == 1 or overlapping else ClassScheme(logits - 1)
    torch.testing.assert_close(
        scheme.mean_logits([values, values]),
        values - (0 if logits == 1 or overlapping else values.logsumexp(1, keepdim=True)),
        atol=1e-3,
        rtol=1e-3,
    )
    expected = scheme.decide(values)
    for temperature in (0.3, 1.0, 4.0):
        found = scheme.probabilities(values, temperature)
        if logits == 1 or overlapping:
            assert torch.equal(scheme.decide(found - 0.5), expected)
        else:
            whole = torch.cat([1 - found.sum(1, keepdim=True), found], 1)
            assert (whole.argmax(1) == expected).float().mean() > 0.99
