"""A top-down path over the encoder's maps, so that the finest one knows what the coarse ones saw.

It is a feature pyramid (Lin et al., 2017) with batch normalization and Pade units.

Letters: B batch, C channels in, O channels out, X Y Z voxel axes of a map, x y z of the next coarser one.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ossnet.models.configs import OccupancyConfig
from ossnet.models.kernels.checkpointing import checkpointed
from ossnet.models.kernels.convolution import convolve
from ossnet.models.kernels.normalization import BatchNorm
from ossnet.models.kernels.pade import Pade
from ossnet.models.kernels.pooling import enlarge
from ossnet.models.residual import normalize_activate


class PyramidLevel(nn.Module):
    """A map of the encoder and the coarser level above it, brought to one width and added; then a residual
    3^3 convolution.

    The coarser level is brought to the width before it is enlarged, for an eighth of the work.
    """

    def __init__(self, in_channels: int, out_channels: int, coarser_channels: int | None) -> None:
        super().__init__()
        self.lateral = nn.Conv3d(in_channels, out_channels, 1, bias=False)
        self.top_down = (
            None if coarser_channels is None else nn.Conv3d(coarser_channels, out_channels, 1, bias=False)
        )
        self.convolution = nn.Conv3d(out_channels, out_channels, 3, padding=1, bias=False)
        self.normalization = BatchNorm(out_channels)
        self.activation = Pade()

    def forward(
        self, volume: Float[Tensor, "B C X Y Z"], coarser: Float[Tensor, "B _ x y z"] | None
    ) -> Float[Tensor, "B O X Y Z"]:
        """Features on the grid of `volume`; `coarser` is None at the top."""
        # fake convolutions lose the layout; both the convolution and the residual keep this one
        merged = convolve(self.lateral, volume).contiguous(memory_format=torch.channels_last_3d)
        if self.top_down is not None:
            assert coarser is not None
            merged += enlarge(convolve(self.top_down, coarser), merged.shape[2:])
        return normalize_activate(
            convolve(self.convolution, merged), self.normalization, self.activation, residual=merged
        )


class FeaturePyramid(nn.Module):
    """Levels from the coarsest map to the finest."""

    def __init__(self, config: OccupancyConfig) -> None:
        super().__init__()
        widths = config.query_widths
        ends = zip(config.map_widths, widths, (*widths[1:], None), strict=True)
        self.levels = nn.ModuleList(PyramidLevel(*each) for each in ends)
        self.checkpointing = config.checkpoint_activations

    def forward(self, maps: Sequence[Float[Tensor, "B _ _ _ _"]]) -> tuple[Float[Tensor, "B _ _ _ _"], ...]:
        """A map in the place of each of the encoder's, finest first."""
        levels: list[Tensor] = []
        for level, volume in zip(reversed(self.levels), reversed(maps), strict=True):
            coarser = levels[-1] if levels else None
            levels.append(self._apply_level(level, volume, coarser))
        return tuple(reversed(levels))

    def _apply_level(self, level: nn.Module, volume: Tensor, coarser: Tensor | None) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpointed(level, level, volume, coarser)
        result: Tensor = level(volume, coarser)
        return result
