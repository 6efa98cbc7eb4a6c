"""The grid a volume is predicted on: the one of training wherever the volume fits into it."""

from collections.abc import Sequence

from ossnet.models import NetworkConfig, OccupancyConfig
from ossnet.sampling.grid import Shape


def prediction_grid(config: NetworkConfig, shape: Sequence[int], working: Shape | None) -> Shape:
    """The working shape, widened where the volume is larger to a multiple that the encoder halves evenly."""
    multiple = 1
    if isinstance(config, OccupancyConfig):
        multiple = config.encoder_downscale * 2 ** len(config.encoder_channels)
    if working is None:
        working = (multiple, multiple, multiple)
    x, y, z = (
        outer if edge <= outer else -(-edge // multiple) * multiple
        for edge, outer in zip(shape, working, strict=True)
    )
    return x, y, z
