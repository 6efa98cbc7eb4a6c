"""Halving and re-gridding of volumes of any shape."""

import pytest
import torch
from torch.nn import functional

from ossnet.models.kernels.pooling import adaptive_max_pool, avg_pool_2x, enlarge


@pytest.mark.parametrize("shape", [(4, 6, 2), (8, 2, 10)])
@pytest.mark.parametrize("channels_last", [True, False])
def test_even_shapes_are_averaged_as_torch_does(shape: tuple[int, int, int], channels_last: bool) -> None:
    volume = torch.randn(2, 3, *shape, dtype=torch.float64)
    if channels_last:
        volume = volume.contiguous(memory_format=torch.channels_last_3d)
    volume.requires_grad_()
    torch.testing.assert_close(avg_pool_2x(volume), functional.avg_pool3d(volume, 2))
    assert torch.autograd.gradcheck(avg_pool_2x, (volume,))


def test_an_odd_axis_is_spread_evenly_and_one_voxel_stays() -> None:
    volume = torch.arange(5.0).view(1, 1, 5, 1, 1).expand(1, 1, 5, 2, 1)
    assert avg_pool_2x(volume).flatten().tolist() == [0.5, 2.0, 3.5]


def test_halving_in_half_precision_rounds_once() -> None:
    volume = torch.randn(1, 2, 4, 4, 4).bfloat16()
    torch.testing.assert_close(
        avg_pool_2x(volume), functional.avg_pool3d(volume.float(), 2).bfloat16(), rtol=0, atol=0
    )


def test_regrid_takes_maxima_over_even_cells() -> None:
    volume = torch.arange(8.0).view(1, 1, 8, 1, 1)
    assert adaptive_max_pool(volume, (2, 1, 1)).flatten().tolist() == [3, 7]
    assert adaptive_max_pool(volume[:, :, :1], (2, 1, 1)).flatten().tolist() == [0, 0]
    assert adaptive_max_pool(volume, (8, 1, 1)) is volume


@pytest.mark.parametrize("shape", [(4, 6, 2), (5, 6, 2)])
def test_cells_are_repeated_to_fill_a_finer_grid(shape: tuple[int, int, int]) -> None:
    volume = torch.randn(2, 3, *(-(-edge // 2) for edge in shape), dtype=torch.float64, requires_grad=True)
    expected = functional.interpolate(volume, shape, mode="nearest")
    torch.testing.assert_close(enlarge(volume, shape), expected, rtol=0, atol=0)
    assert torch.autograd.gradcheck(lambda each: enlarge(each, shape), (volume,))
