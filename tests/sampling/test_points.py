"""Where points are drawn: shares, reproducibility, the border band against scipy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ossnet.sampling.points import SamplingConfig, border_voxels, draw_points


def ball(shape: tuple[int, int, int], centre: tuple[int, int, int], radius: float) -> torch.Tensor:
    axes = np.ogrid[tuple(slice(edge) for edge in shape)]
    squares = sum((axis - middle) ** 2 for axis, middle in zip(axes, centre, strict=True))
    return torch.from_numpy((squares <= radius**2).astype(np.uint8))


def draw(label: torch.Tensor, config: SamplingConfig, seed: int = 0) -> torch.Tensor:
    return draw_points(label, config, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("centre", [(10, 11, 9), (0, 19, 9)])
def test_border_band_is_the_dilated_change_of_the_mask(centre: tuple[int, int, int]) -> None:
    label = ball((24, 20, 18), centre, 4)
    cube = np.ones((3, 3, 3))
    mask = label.numpy() > 0
    # Beyond the grid there is no voxel, hence no change: a mask at the wall has no border there.
    change = ndimage.binary_dilation(mask, cube) & ndimage.binary_dilation(~mask, cube)
    expected = ndimage.binary_dilation(change, cube, iterations=2)
    found = torch.zeros(label.shape, dtype=torch.bool)
    found[tuple(border_voxels(label, 2).T)] = True
    np.testing.assert_array_equal(found.numpy(), expected)


@settings(deadline=None)
@given(
    points=st.integers(1, 300),
    shares=st.sampled_from([(0.0, 0.0), (0.5, 0.0), (0.0, 1.0), (0.3, 0.4)]),
    seed=st.integers(0, 1000),
)
def test_shares_are_kept_and_every_voxel_lies_inside(
    points: int, shares: tuple[float, float], seed: int
) -> None:
    label = ball((16, 15, 14), (8, 7, 6), 2)
    config = SamplingConfig(points=points, border_share=shares[0], foreground_share=shares[1], border_width=1)
    drawn = draw(label, config, seed)
    assert drawn.shape == (points, 3)
    assert (drawn >= 0).all()
    assert (drawn < torch.tensor(label.shape)).all()
    inside = label[tuple(drawn.T)] > 0
    assert inside.sum() >= int(points * shares[1])


def test_uniform_points_reach_the_last_index_of_every_axis() -> None:
    drawn = draw(torch.zeros(4, 3, 5), SamplingConfig(points=2000))
    assert drawn.max(dim=0).values.tolist() == [3, 2, 4]
    counts = torch.bincount(drawn[:, 0], minlength=4).float() / 2000
    assert (counts - 0.25).abs().max() < 0.04


def test_a_case_without_foreground_is_drawn_uniformly() -> None:
    config = SamplingConfig(points=50, border_share=0.5, foreground_share=0.5)
    assert draw(torch.zeros(6, 6, 6), config).shape == (50, 3)


def test_equal_seeds_give_equal_points() -> None:
    label, config = ball((12, 12, 12), (6, 6, 6), 3), SamplingConfig(points=64, border_share=0.5)
    assert torch.equal(draw(label, config, 5), draw(label, config, 5))
    assert not torch.equal(draw(label, config, 5), draw(label, config, 6))


@pytest.mark.parametrize("shares", [(0.6, 0.5), (-0.1, 0.2)])
def test_shares_beyond_one_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="border_share"):
        SamplingConfig(border_share=shares[0], foreground_share=shares[1])
