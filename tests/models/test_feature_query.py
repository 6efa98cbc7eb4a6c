"""Sampling of feature maps at points, against torch's own and against what geometry demands."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from plain_network import sample
from torch.nn import functional

from ossnet.models.feature_query import query_features

EDGES = st.integers(1, 6)
SHAPES = st.tuples(EDGES, EDGES, EDGES)


@given(shapes=st.lists(SHAPES, min_size=1, max_size=3), grid=SHAPES, batch=st.integers(1, 2))
def test_values_and_gradients_are_those_of_torch(
    shapes: list[tuple[int, int, int]], grid: tuple[int, int, int], batch: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [
        torch.randn(batch, 2 + index, *shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for index, shape in enumerate(shapes)
    ]
    coordinates = torch.rand(batch, 20, 3, generator=generator, dtype=torch.float64) * 2 - 1
    ours, expected = query_features(maps, coordinates, grid), sample(maps, coordinates, grid)
    torch.testing.assert_close(ours, expected)
    gradients = torch.autograd.grad(ours.square().sum(), maps)
    for one, other in zip(gradients, torch.autograd.grad(expected.square().sum(), maps), strict=True):
        torch.testing.assert_close(one, other)


def test_a_map_on_the_volumes_own_grid_gives_each_voxel_its_value() -> None:
    grid = (3, 4, 5)
    volume = torch.randn(1, 2, *grid)
    voxels = torch.cartesian_prod(*(torch.arange(edge) for edge in grid))
    coordinates = 2.0 * voxels / (torch.tensor(grid) - 1) - 1
    torch.testing.assert_close(query_features([volume], coordinates[None], grid)[0], volume[0].flatten(1).T)


def test_a_halved_ramp_stays_the_ramp_inside() -> None:
    """Cells of a coarser map lie at the centers of the voxels that they average."""
    grid = (8, 12, 4)
    ramp = torch.arange(12.0).view(1, 1, 1, 12, 1).expand(1, 1, *grid)
    halved = functional.avg_pool3d(ramp, 2)
    voxels = torch.tensor([[3, index, 1] for index in range(12)])
    coordinates = 2.0 * voxels / (torch.tensor(grid) - 1) - 1
    expected = torch.arange(12.0).clamp(0.5, 10.5)
    torch.testing.assert_close(query_features([halved], coordinates[None], grid)[0, :, 0], expected)


def test_half_precision_maps_are_sampled_at_exact_places() -> None:
    """In bfloat16 only values and weights are rounded: a place is never moved by a voxel."""
    grid = (256, 2, 2)
    ramp = torch.arange(256.0).view(1, 1, 256, 1, 1).expand(1, 1, *grid).bfloat16()
    coordinates = torch.tensor([[[2 * 201 / 255 - 1, -1.0, -1.0]]])
    assert float(query_features([ramp], coordinates, grid)) == 201
