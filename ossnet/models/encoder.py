"""The encoder: a downscaled volume to latent vectors and, if requested, a coarse segmentation.

Letters: B batch, C channels, D latent vectors, L cells of the latent grid, K classes, X Y Z voxel axes.
"""

from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ossnet.models.configs import OccupancyConfig
from ossnet.models.kernels.checkpointing import checkpointed
from ossnet.models.kernels.convolution import channels_last, convolve
from ossnet.models.kernels.normalization import BatchNorm
from ossnet.models.kernels.pade import Pade
from ossnet.models.kernels.pooling import adaptive_max_pool
from ossnet.models.pyramid import FeaturePyramid
from ossnet.models.residual import ResidualBlock, normalize_activate


class Latent(NamedTuple):
    """The encoder's description of a volume."""

    vectors: Float[Tensor, "B D L"]
    """The latent vector, or a vector for the decoder's input and one for each of its blocks."""
    auxiliary: Float[Tensor, "B K x y z"] | None
    """Logits of the coarse segmentation, at the encoder's deepest resolution."""
    maps: tuple[Float[Tensor, "B C _ _ _"], ...] = ()
    """Feature maps that the decoder samples, finest first; none without `feature_query`."""


class ConvBlock(nn.Module):
    """A 5^3 convolution, batch normalization and a Pade unit."""

    def __init__(self, in_channels: int, out_channels: int, *, bias: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(in_channels, out_channels, 5, padding=2, bias=bias)
        self.normalization = BatchNorm(out_channels)
        self.activation = Pade()

    def forward(self, volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B O X Y Z"]:
        """Features on the same grid."""
        return normalize_activate(convolve(self.convolution, volume), self.normalization, self.activation)


class Encoder(nn.Module):
    """Residual blocks, then a map on the latent grid flattened into the latent (spec sections 3.2 to 3.4).

    The reference works at one volume size only. Here feature maps are max-pooled to the latent grid, which is
    what it does at its own sizes, so that any shape goes in.
    """

    def __init__(self, config: OccupancyConfig) -> None:
        super().__init__()
        self.grid = config.latent_grid
        self.exposed = config.feature_query
        self.checkpointing = config.checkpoint_activations
        widths = config.encoder_channels
        ends = zip((config.in_channels, *widths[:-1]), widths, strict=True)
        self.blocks = nn.ModuleList(ResidualBlock(before, after) for before, after in ends)
        narrow = [max(width // 2, 1) for width in widths]
        self.skips = nn.ModuleList(
            ConvBlock(width, half, bias=False)
            for width, half in zip(widths, narrow, strict=True)
            if config.skip_connections
        )
        gathered = sum(narrow) if config.skip_connections else widths[-1]
        self.latent = ConvBlock(gathered, config.latent_channels, bias=True)
        self.auxiliary = (
            nn.Conv3d(widths[-1], config.classes, 5, padding=2, bias=False) if config.auxiliary_head else None
        )
        self.pyramid = FeaturePyramid(config) if config.pyramid_channels else None

    def forward(self, volume: Float[Tensor, "B C X Y Z"]) -> Latent:
        """Latent vectors, the coarse segmentation's logits, and feature maps to sample."""
        volume = channels_last(volume)
        gathered, maps = [], []
        for index, block in enumerate(self.blocks):
            volume, fine = self._apply_block(block, volume, recompute=index == 0)
            if fine is not None:
                maps += [volume] if index else [fine, volume]
            if self.skips:
                gathered.append(self.skips[index](adaptive_max_pool(volume, self.grid)))
        features = torch.cat(gathered, 1) if gathered else adaptive_max_pool(volume, self.grid)
        auxiliary = None if self.auxiliary is None else convolve(self.auxiliary, volume)
        vectors = self.latent(features).flatten(2)
        return Latent(vectors, auxiliary, tuple(maps) if self.pyramid is None else self.pyramid(maps))

    def _apply_block(
        self, block: nn.Module, volume: Tensor, *, recompute: bool
    ) -> tuple[Tensor, Tensor | None]:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpointed(block, partial(block, exposed=self.exposed), volume)
        return block(volume, exposed=self.exposed, recompute=recompute)
