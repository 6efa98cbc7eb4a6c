"""Small inputs for networks."""

from typing import NamedTuple

import torch
from torch import Tensor

from ossnet.models import OccupancyConfig


class Inputs(NamedTuple):
    encoder_input: Tensor
    coordinates: Tensor
    patches: Tensor | tuple[Tensor, ...] | None
    grid_shape: tuple[int, int, int]


def random_inputs(
    config: OccupancyConfig,
    grid: tuple[int, int, int],
    *,
    batch: int = 2,
    points: int = 20,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Inputs:
    """What a network of this configuration takes for volumes of a grid."""
    generator = torch.Generator().manual_seed(seed)
    small = [-(-edge // config.encoder_downscale) for edge in grid]
    last = torch.tensor(grid) - 1
    voxels = (torch.rand(batch, points, 3, generator=generator) * (last + 1)).floor()
    edges = [config.patch_edge] * 3
    patches = torch.randn(batch, points, config.patch_channels, *edges, generator=generator, dtype=dtype)
    return Inputs(
        torch.randn(batch, config.in_channels, *small, generator=generator, dtype=dtype),
        torch.where(last > 0, 2 * voxels / last.clamp(min=1) - 1, 0.0).to(dtype),
        patches if config.patch_channels else None,
        grid,
    )
