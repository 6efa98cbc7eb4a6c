"""Fitting a preset network to the size of a study's volumes; the paper's sizes come out for its data sets.

Letters: X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod

from ossnet.models import DenseConfig, NetworkConfig, OccupancyConfig
from ossnet.sampling.grid import encoder_grid, working_shape

FINE = 32
"""Voxels of the longest edge up to which an encoder sees the volume at full resolution."""
FINE_QUERIED = 64
"""The same for networks that query features, which need the finest map; beyond `FINE` it is narrow."""
NARROW = 8
"""Channels of such a map at most."""
LATENT_EDGE = 8
"""Cells of the latent map along an axis at most (paper: 8x8x5 for BraTS, 8x8x8 for LiTS)."""

COARSEST = 3
"""Cells of the encoder's output along an axis at least, where the volume allows."""


def coarsest_values(config: NetworkConfig, shape: Sequence[int], volumes: int) -> int:
    """Values behind each statistic that a network normalizes by at its coarsest level; it needs two.

    Args:
        shape: voxels that it is trained on, along X, Y and Z.
        volumes: those that pass together: occupancy networks share their statistics, dense ones do not.
    """
    if isinstance(config, OccupancyConfig):
        return prod(encoder_grid(config, shape)) * volumes
    axes = shape[: config.spatial_dims] if isinstance(config, DenseConfig) else shape
    return prod(-(-edge // config.grid_multiple) for edge in axes)


def size_network(config: NetworkConfig, largest: Sequence[int]) -> NetworkConfig:
    """A network whose depth, latent map and encoder resolution suit volumes of up to `largest` voxels.

    Volumes up to 32 voxels long, where features are queried up to 64, are encoded at full resolution, larger
    ones at half (as in the paper). The latent map is the encoder's output grid, eight cells an axis at most.
    Levels are left out while the coarsest grid would be thinner than three cells, which would mostly be
    frame.
    """
    if not isinstance(config, OccupancyConfig):
        return config.sized_for(largest)
    config = replace(config, encoder_downscale=encoder_downscale(config, largest))
    config = replace(config, encoder_channels=encoder_levels(config, largest))
    return replace(config, latent_grid=latent_grid(config, largest))


def encoder_downscale(config: OccupancyConfig, largest: Sequence[int]) -> int:
    """The edge in voxels of the cubes over which the encoder's input is averaged."""
    return 1 if max(largest) <= (FINE_QUERIED if config.feature_query else FINE) else 2


def encoder_levels(config: OccupancyConfig, largest: Sequence[int]) -> tuple[int, ...]:
    """The first widths of the encoder, as many as volumes of up to `largest` voxels can be halved for.

    Where features are queried at full resolution all are narrower, so that the finest map has `NARROW`.
    """
    channels, finest = config.encoder_channels, config.encoder_channels[0]
    if config.feature_query and config.encoder_downscale == 1 and max(largest) > FINE and finest > NARROW:
        channels = tuple(max(width * NARROW // finest, 1) for width in channels)
    while len(channels) > 1:
        trial = replace(config, encoder_channels=channels)
        if min(encoder_grid(trial, _working(trial, largest))) >= COARSEST:
            break
        channels = channels[:-1]
    return channels


def latent_grid(config: OccupancyConfig, largest: Sequence[int]) -> tuple[int, int, int]:
    """Cells of the latent map along X, Y and Z: those of the encoder's output, eight an axis at most."""
    x, y, z = (min(edge, LATENT_EDGE) for edge in encoder_grid(config, _working(config, largest)))
    return x, y, z if x * y * z > 1 else 2


def _working(config: OccupancyConfig, largest: Sequence[int]) -> tuple[int, int, int]:
    return working_shape(largest, multiple=config.grid_multiple)
