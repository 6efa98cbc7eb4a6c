"""Networks sized for a study: the paper's sizes for its data, something that trains for any other."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ossnet.models import OccupancyConfig, network_config, network_from_config
from ossnet.sampling.grid import working_shape
from ossnet.sizing import encoder_levels, size_network


def test_brats_gets_the_papers_sizes() -> None:
    sized = size_network(network_config("oss-net-c", in_channels=4), (240, 240, 155))
    assert sized == network_config("oss-net-c", dataset="brats")
    assert working_shape((240, 240, 155), multiple=sized.grid_multiple) == (256, 256, 160)


@pytest.mark.parametrize(
    ("name", "edge", "downscale"),
    [("oss-net-c", 32, 1), ("oss-net-c", 33, 2), ("feature-query", 64, 1), ("feature-pyramid", 65, 2)],
)
def test_small_volumes_are_encoded_at_full_resolution(name: str, edge: int, downscale: int) -> None:
    sized = size_network(network_config(name), (20, edge, 30))
    assert isinstance(sized, OccupancyConfig)
    assert sized.encoder_downscale == downscale


@pytest.mark.parametrize(("edge", "widths"), [(32, (16, 32)), (33, (8, 16)), (65, (16, 32))])
def test_queried_at_full_resolution_features_are_narrow(edge: int, widths: tuple[int, ...]) -> None:
    sized = size_network(network_config("feature-query-patch"), (30, edge, 30))
    assert isinstance(sized, OccupancyConfig)
    assert sized.encoder_channels[:2] == widths


def test_a_given_resolution_keeps_its_widths() -> None:
    half = network_config("feature-query-patch", encoder_downscale=2)
    assert isinstance(half, OccupancyConfig)
    assert encoder_levels(half, (40, 40, 40)) == (16, 32, 64)


@pytest.mark.parametrize("name", ["o-net", "oss-net-d", "unet-3d", "unet-2d"])
@settings(deadline=None, max_examples=12)
@given(shape=st.tuples(*[st.integers(3, 40)] * 3))
def test_any_study_gets_a_network_that_trains(name: str, shape: tuple[int, int, int]) -> None:
    small = {"decoder_width": 8, "decoder_blocks": 2} if name in {"o-net", "oss-net-d"} else {}
    config = size_network(network_config(name, **small), shape)
    working = working_shape(shape, multiple=config.grid_multiple)
    assert all(edge >= needed for edge, needed in zip(working, shape, strict=True))
    network = network_from_config(config).train()
    if name.startswith("unet"):
        grid = working[: config.spatial_dims]
        loss = network(torch.rand(1, 1, *grid)).square().mean()
    else:
        low = torch.rand(1, 1, *(edge // config.encoder_downscale for edge in working))
        patches = torch.rand(1, 5, config.patch_channels, 7, 7, 7) if config.patch_channels else None
        loss = network(low, torch.rand(1, 5, 3), patches, working).logits.square().mean()
    loss.backward()
    assert torch.isfinite(loss)
