"""Dense prediction of whole volumes. Letters: N points, X Y Z voxel axes."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from ossnet.inference import InferenceConfig, predict_volume
from ossnet.inference.query.boxes import BoxPatches, box_shape, boxes, indices
from ossnet.models import OccupancyNetwork, build_network
from ossnet.sampling import SamplingConfig
from ossnet.sampling.grid import coordinates, offset, pad
from ossnet.sampling.patches import PatchSource

SMALL = {"encoder_channels": (4, 8), "latent_grid": (2, 2, 2), "decoder_width": 16, "decoder_blocks": 2}
SHAPE = (13, 10, 7)
SAMPLING = SamplingConfig(working_shape=(16, 16, 8))


def small(name: str, **fields: object) -> nn.Module:
    """A small network whose statistics have seen something."""
    torch.manual_seed(0)
    sizes = (
        {"channels": (4, 8), "residual_units": 1} if name.startswith("unet") else {**SMALL, "patch_edge": 3}
    )
    network = build_network(name, **{**sizes, "in_channels": 2, "classes": 2, **fields})
    if isinstance(network, OccupancyNetwork):
        for _ in range(3):
            patches = torch.randn(2, 64, network.config.patch_channels, 3, 3, 3)
            given_patches = patches if network.config.patch_channels else None
            network(torch.randn(2, 2, 8, 8, 4), torch.rand(2, 64, 3) * 2 - 1, given_patches, (16, 16, 8))
    return network


def image(shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))


@given(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)), st.integers(1, 1000))
def test_boxes_tile_the_grid_and_keep_the_limit(shape: tuple[int, int, int], limit: int) -> None:
    seen = torch.zeros(shape)
    for box in boxes(shape, limit):
        seen[box] += 1
        assert torch.Size(box_shape(box)).numel() <= limit
        assert indices(box, torch.device("cpu"))[0].tolist() == [edge.start for edge in box]
    assert (seen == 1).all()


@pytest.mark.parametrize(("local", "mid_range"), [(True, False), (False, True), (True, True)])
def test_patches_of_a_box_are_those_of_its_voxels(local: bool, mid_range: bool) -> None:
    source = BoxPatches(image(), edge=5, local=local, mid_range=mid_range)
    for box in boxes(SHAPE, 50):
        assert torch.equal(source.gather_box(box), source.gather(indices(box, torch.device("cpu"))))


@pytest.mark.parametrize(("local", "mid_range"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("shape", [(13, 10, 7), (4, 5, 12), (3, 2, 1)])
def test_rows_of_patches_are_those_of_the_plain_method(
    shape: tuple[int, int, int], local: bool, mid_range: bool
) -> None:
    source = BoxPatches(image(shape), edge=5, local=local, mid_range=mid_range)
    points = torch.stack([torch.randint(edge, (600,)) for edge in shape], 1)
    assert torch.equal(source.gather(points), PatchSource.gather(source, points))


@pytest.mark.parametrize("name", ["o-net", "oss-net-a", "oss-net-b", "oss-net-c", "oss-net-d"])
def test_dense_prediction_is_the_network_at_every_voxel(name: str) -> None:
    """Against points drawn as training draws them, by the plain method."""
    network = small(name).eval()
    assert isinstance(network, OccupancyNetwork)
    volume, config = image(), network.config
    prediction = predict_volume(
        network, volume, sampling=SAMPLING, settings=InferenceConfig(), with_probabilities=True
    )
    points = torch.stack([torch.randint(edge, (200,)) for edge in SHAPE], 1)
    grid = SAMPLING.working_shape
    assert grid is not None
    source = BoxPatches(volume, edge=3, local=config.local_patch, mid_range=config.mid_range_patch)
    with torch.no_grad():
        logits = network(
            functional.avg_pool3d(pad(volume, grid), 2)[None],
            coordinates(points + torch.tensor(offset(SHAPE, grid)), grid)[None],
            source.gather(points)[None] if config.patch_channels else None,
            grid,
        ).logits[0]
    x, y, z = points.unbind(1)
    expected = logits.softmax(1)
    assert prediction.probabilities is not None
    torch.testing.assert_close(prediction.probabilities[:, x, y, z].T, expected[:, 1:], atol=1e-5, rtol=1e-4)
    clear = expected.topk(2).values.diff().abs()[:, 0] > 1e-3
    assert clear.sum() > 100
    assert torch.equal(prediction.classes[x, y, z][clear], expected.argmax(1).to(torch.uint8)[clear])


@settings(max_examples=12, deadline=None)
@given(st.integers(1, 1000), st.sampled_from(["o-net", "oss-net-d", "unet-3d", "unet-2d"]))
def test_chunks_do_not_change_the_result(chunk: int, name: str) -> None:
    network = small(name)
    whole, parts = (
        predict_volume(
            network,
            image((6, 5, 9)),
            sampling=replace(SAMPLING, working_shape=(8, 8, 16)),
            settings=InferenceConfig(points_per_chunk=size, slices_per_chunk=min(size, 16)),
            with_probabilities=True,
        )
        for size in (10**6, chunk)
    )
    assert whole.probabilities is not None
    assert parts.probabilities is not None
    torch.testing.assert_close(whole.probabilities, parts.probabilities, atol=1e-5, rtol=1e-4)
    assert (whole.classes != parts.classes).float().mean() < 0.01


@pytest.mark.parametrize("name", ["oss-net-c", "unet-3d", "unet-2d"])
@pytest.mark.parametrize("classes", [1, 3])
def test_classes_and_probabilities(name: str, classes: int) -> None:
    network = small(name, classes=classes)
    prediction = predict_volume(
        network, image(), sampling=SAMPLING, settings=InferenceConfig(), with_probabilities=True
    )
    assert prediction.classes.shape == SHAPE
    assert prediction.classes.dtype == torch.uint8
    probabilities = prediction.probabilities
    assert probabilities is not None
    assert probabilities.shape == (classes, *SHAPE)
    if classes == 1:
        assert torch.equal(prediction.classes, (probabilities[0] > 0.5).to(torch.uint8))
    else:
        both = torch.cat([1 - probabilities.sum(0, keepdim=True), probabilities])
        assert (prediction.classes == both.argmax(0)).float().mean() > 0.99


@pytest.mark.parametrize("name", ["oss-net-c", "unet-3d", "unet-2d"])
@pytest.mark.parametrize("regions", [1, 3, 8])
def test_regions_are_decided_each_by_itself(name: str, regions: int) -> None:
    network = small(name, classes=regions, overlapping=True)
    prediction = predict_volume(
        network, image(), sampling=SAMPLING, settings=InferenceConfig(), with_probabilities=True
    )
    probabilities = prediction.probabilities
    assert probabilities is not None
    assert probabilities.shape == (regions, *SHAPE)
    for index, probability in enumerate(probabilities):
        assert torch.equal(prediction.classes & (1 << index) > 0, probability > 0.5)
    if regions > 1:
        assert len(prediction.classes.unique()) > 2


@pytest.mark.parametrize("name", ["oss-net-c", "unet-3d", "unet-2d"])
def test_volumes_larger_than_the_working_shape(name: str) -> None:
    prediction = predict_volume(
        small(name), image((19, 16, 9)), sampling=SAMPLING, settings=InferenceConfig()
    )
    assert prediction.classes.shape == (19, 16, 9)


def test_unet_sees_the_frame_of_training() -> None:
    network = small("unet-3d").eval()
    prediction = predict_volume(network, image(), sampling=SAMPLING, settings=InferenceConfig())
    grid = (16, 16, 8)
    with torch.no_grad():
        logits = network(pad(image(), grid)[None])[0]
    start = offset(SHAPE, grid)
    box = tuple(slice(first, first + edge) for first, edge in zip(start, SHAPE, strict=True))
    assert torch.equal(prediction.classes, logits.argmax(0)[box].to(torch.uint8))


class _Brightest(nn.Module):
    """Decides each voxel by itself, so that windows must not matter."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(2, 3, 1)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, volume: Tensor) -> Tensor:
        self.seen.append(tuple(volume.shape[2:]))
        return self.convolution(volume)


def test_windows_of_the_training_crop() -> None:
    network = small("unet-3d")
    network.network = pointwise = _Brightest(network)
    whole = predict_volume(network, image(), sampling=SAMPLING, settings=InferenceConfig())
    crops = replace(SAMPLING, crop_shape=(8, 8, 8))
    windowed = predict_volume(network, image(), sampling=crops, settings=InferenceConfig())
    assert torch.equal(whole.classes, windowed.classes)
    assert pointwise.seen[0] == (16, 16, 8)
    assert set(pointwise.seen[1:]) == {(8, 8, 8)}


def test_leaves_the_mode_of_the_network() -> None:
    network = small("oss-net-c").train()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    predict_volume(network, image(), sampling=SAMPLING, settings=InferenceConfig())
    assert network.training
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_rejects_what_it_cannot_decide() -> None:
    regions = small("oss-net-a", overlapping=True, classes=9)
    with pytest.raises(ValueError, match="at most 8 overlapping regions, found 9"):
        predict_volume(regions, image(), sampling=SAMPLING, settings=InferenceConfig())
    with pytest.raises(ValueError, match="Linear"):
        predict_volume(nn.Linear(2, 2), image(), sampling=SAMPLING, settings=InferenceConfig())
    with pytest.raises(ValueError, match="points_per_chunk"):
        InferenceConfig(points_per_chunk=0)
