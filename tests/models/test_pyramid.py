"""The top-down path: what a point of the finest map knows, its widths, and what is refused."""

import pytest
import torch

from ossnet.models import OccupancyConfig, build_network
from ossnet.models.pyramid import FeaturePyramid

FIELDS = {"encoder_channels": (4, 8, 16), "decoder_width": 8, "latent_grid": (2, 2, 2)}


def test_levels_are_as_wide_as_their_maps_and_at_most_as_asked() -> None:
    config = OccupancyConfig(feature_query=True, pyramid_channels=10, encoder_channels=(4, 8, 16, 32))
    assert config.map_widths == (4, 4, 8, 16, 32)
    assert config.query_widths == (4, 4, 8, 10, 10)
    assert config.query_channels == 36
    maps = [torch.randn(1, width, *(32 // 2**level,) * 3) for level, width in enumerate(config.map_widths)]
    levels = FeaturePyramid(config)(maps)
    assert [tuple(level.shape) for level in levels] == [
        (1, width, *each.shape[2:]) for width, each in zip(config.query_widths, maps, strict=True)
    ]


def test_the_finest_map_knows_the_coarsest_cell() -> None:
    config = OccupancyConfig(feature_query=True, pyramid_channels=4, encoder_channels=(4, 4))
    pyramid = FeaturePyramid(config).eval()
    maps = [torch.zeros(1, 4, *(edge,) * 3) for edge in (16, 8, 4)]
    maps[2].requires_grad_()
    with torch.enable_grad():
        value = pyramid(maps)[0][0, :, 0, 0, 0].sum()
    (gradient,) = torch.autograd.grad(value, maps[2])
    assert gradient[0, :, 0, 0, 0].abs().sum() > 0
    assert gradient[0, :, 3, 3, 3].abs().sum() == 0


def test_a_network_without_a_pyramid_has_the_weights_it_had() -> None:
    torch.manual_seed(0)
    plain = build_network("feature-query-patch", **FIELDS).state_dict()
    torch.manual_seed(0)
    none = build_network("feature-pyramid", pyramid_channels=0, **FIELDS).state_dict()
    assert plain.keys() == none.keys()
    assert all(torch.equal(plain[name], none[name]) for name in plain)


@pytest.mark.parametrize(("pyramid", "query"), [(-1, True), (8, False)])
def test_a_pyramid_needs_channels_and_maps_that_are_sampled(pyramid: int, query: bool) -> None:
    with pytest.raises(ValueError, match=r"^pyramid_channels: expected 0, or a positive number with feat"):
        OccupancyConfig(feature_query=query, pyramid_channels=pyramid)
