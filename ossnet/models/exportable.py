"""An occupancy network's evaluation in torch's elementary operations, which exporters can read.

It shares the network's parameters and gives the same values, slower and with more memory.

Letters: B batch, C channels, N points, P patch edge, D latent vectors, L latent length, K logits, Q queried
features, X Y Z voxel axes of the working volume, x y z cells of a map.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ossnet.models.decoder import DecoderBlock, InputBlock
from ossnet.models.encoder import ConvBlock
from ossnet.models.feature_query import corners
from ossnet.models.kernels.normalization import BatchNorm, ConditionalNorm
from ossnet.models.kernels.pade import Pade
from ossnet.models.occupancy import OccupancyNetwork
from ossnet.models.pyramid import FeaturePyramid, PyramidLevel
from ossnet.models.residual import ResidualBlock

_EPSILON = 1e-5


class PlainEncoder(nn.Module):
    """A working volume, not downscaled yet, to what is known of it."""

    def __init__(self, network: OccupancyNetwork) -> None:
        super().__init__()
        self.encoder = network.encoder
        self.config = network.config

    def forward(self, volume: Float[Tensor, "B C X Y Z"]) -> tuple[Tensor, ...]:
        """Latent vectors `[B D L]`; with the head the coarse logits; the maps that points sample."""
        features = functional.avg_pool3d(volume, self.config.encoder_downscale)
        gathered, maps = [], []
        for index, block in enumerate(self.encoder.blocks):
            assert isinstance(block, ResidualBlock)
            fine, features = _residual(features, block)
            maps += [features] if index else [fine, features]
            if self.encoder.skips:
                gathered.append(_mapping(_regrid(features, self.encoder.grid), self.encoder.skips[index]))
        joined = torch.cat(gathered, 1) if gathered else _regrid(features, self.encoder.grid)
        outputs = [_mapping(joined, self.encoder.latent).flatten(2)]
        if self.encoder.auxiliary is not None:
            outputs.append(self.encoder.auxiliary(features))
        if self.encoder.pyramid is not None:
            maps = _pyramid(maps, self.encoder.pyramid)
        return (*outputs, *(maps if self.config.feature_query else ()))


class PlainDecoder(nn.Module):
    """Points of a working volume of one shape to logits."""

    def __init__(self, network: OccupancyNetwork, grid_shape: Sequence[int]) -> None:
        super().__init__()
        self.decoder, self.patch_encoder = network.decoder, network.patch_encoder
        self.config = network.config
        self.grid_shape = tuple(grid_shape)

    def forward(
        self,
        latent: Float[Tensor, "B D L"],
        coordinates: Float[Tensor, "B N 3"],
        patches: Float[Tensor, "B N C P P P"] | None,
        maps: Sequence[Float[Tensor, "B C _ _ _"]] = (),
    ) -> Float[Tensor, "B N K"]:
        """Decode points; see `OccupancyNetwork.decode`."""
        place = coordinates
        if self.config.coordinates == "voxel":
            place = (coordinates + 1) / 2 * torch.tensor([float(edge - 1) for edge in self.grid_shape])
        known = [place]
        if self.patch_encoder is not None and patches is not None:
            one, two = self.patch_encoder.convolution1, self.patch_encoder.convolution2
            hidden = _pade(one(patches.flatten(0, 1)), self.patch_encoder.activation1)
            features = _pade(two(hidden), self.patch_encoder.activation2)
            known.append(features.flatten(1).unflatten(0, coordinates.shape[:2]))
        if maps:
            known.append(_query(maps, coordinates, self.grid_shape))
        points, vectors = torch.cat(known, 2), latent.unbind(1)
        own = vectors[1:] or vectors * len(self.decoder.blocks)
        for block, vector in zip(self.decoder.blocks, own, strict=True):
            points = _decoder_block(points, vectors[0], vector, block)
        return self.decoder.output(points)[..., : self.config.logits]


def _pade(x: Tensor, unit: Pade) -> Tensor:
    above, below = unit.numerator[5], unit.denominator[3].abs()
    for power in range(4, -1, -1):
        above = above * x + unit.numerator[power]
    for power in range(2, -1, -1):
        below = below * x.abs() + unit.denominator[power].abs()
    return above / (below * x.abs() + 1)


def _batch_norm(x: Tensor, norm: BatchNorm) -> Tensor:
    return functional.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=_EPSILON)


def _mapping(x: Tensor, module: nn.Module) -> Tensor:
    assert isinstance(module, ConvBlock)
    return _pade(_batch_norm(module.convolution(x), module.normalization), module.activation)


def _residual(x: Tensor, block: ResidualBlock) -> tuple[Tensor, Tensor]:
    fine = _pade(_batch_norm(block.convolution1(x), block.normalization1), block.activation1)
    hidden = _batch_norm(block.convolution2(functional.avg_pool3d(fine, 2)), block.normalization2)
    shortcut = block.shortcut(functional.avg_pool3d(x, 2))
    return fine, _pade(hidden + shortcut, block.activation2)


def _pyramid(maps: Sequence[Tensor], pyramid: FeaturePyramid) -> list[Tensor]:
    levels: list[Tensor] = []
    for level, x in zip(reversed(pyramid.levels), reversed(maps), strict=True):
        assert isinstance(level, PyramidLevel)
        merged = level.lateral(x)
        if level.top_down is not None:
            coarser = level.top_down(levels[0])
            merged = merged + functional.interpolate(coarser, merged.shape[2:], mode="nearest")
        hidden = _batch_norm(level.convolution(merged), level.normalization)
        levels.insert(0, _pade(hidden + merged, level.activation))
    return levels


def _regrid(x: Tensor, grid: Sequence[int]) -> Tensor:
    """Adaptive max pooling an axis at a time, which no exporter has as one operation."""
    for axis, cells in enumerate(grid, 2):
        edge = x.shape[axis]
        if edge != cells:
            ends = [(i * edge // cells, -(-(i + 1) * edge // cells)) for i in range(cells)]
            parts = [x.narrow(axis, start, stop - start).amax(axis, keepdim=True) for start, stop in ends]
            x = torch.cat(parts, axis)
    return x


def _query(maps: Sequence[Tensor], coordinates: Tensor, grid_shape: Sequence[int]) -> Tensor:
    edges = torch.tensor([float(edge) for edge in grid_shape])
    shares = (coordinates * (edges - 1) / edges + 1) / 2
    found = []
    for features in maps:
        cells, weights = corners(shares, features.shape[2:])
        rows = features.flatten(2).transpose(1, 2)
        around = torch.stack([row[cell] for row, cell in zip(rows.unbind(), cells.unbind(), strict=True)])
        found.append((around * weights.unsqueeze(3)).sum(2))
    return torch.cat(found, 2)


def _decoder_block(points: Tensor, first: Tensor, own: Tensor, block: nn.Module) -> Tensor:
    assert isinstance(block, DecoderBlock)
    shortcut = points
    if isinstance(block, InputBlock):
        shortcut = _with_latent(points, first, block.shortcut)
        hidden = _with_latent(points, first, block.linear1)
    else:
        hidden = block.linear1(points)
    hidden = _pade(_conditional(hidden, own, block.normalization1), block.activation1)
    hidden = _conditional(block.linear2(hidden), own, block.normalization2)
    return _pade(hidden + shortcut, block.activation2)


def _with_latent(points: Tensor, latent: Tensor, layer: nn.Linear) -> Tensor:
    """A layer of [points | latent], the latent's part computed once a volume."""
    length = latent.shape[1]
    shared = functional.linear(latent, layer.weight[:, -length:], layer.bias)
    return functional.linear(points, layer.weight[:, :-length]) + shared.unsqueeze(1)


def _conditional(x: Tensor, latent: Tensor, norm: ConditionalNorm) -> Tensor:
    standardized = (x - norm.running_mean) * (norm.running_var + _EPSILON).rsqrt()
    return norm.gamma(latent).unsqueeze(1) * standardized + norm.beta(latent).unsqueeze(1)
