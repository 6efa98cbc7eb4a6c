"""The occupancy network as the paper's code composes it, from our parameters: slow, large and plain.

It takes repeated latents, raw voxel coordinates, convolved patches and torch's own operations one by one, so
that every shortcut of the real network is held against it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ossnet.models import OccupancyNetwork
from ossnet.models.decoder import InputBlock
from ossnet.models.encoder import ConvBlock
from ossnet.models.kernels.pade import Pade
from ossnet.models.pyramid import FeaturePyramid
from ossnet.models.residual import ResidualBlock


def pade(x: Tensor, unit: Pade) -> Tensor:
    above = sum(a * x**i for i, a in enumerate(unit.numerator))
    below = sum(b.abs() * x.abs() ** k for k, b in enumerate(unit.denominator, 1))
    return above / (1 + below)


def batch_norm(x: Tensor, norm: nn.Module) -> Tensor:
    axes = [0, *range(2, x.ndim)]
    shape = [1, -1, *[1] * (x.ndim - 2)]
    mean, variance = norm.running_mean, norm.running_var
    if norm.training:
        mean, variance = x.mean(axes), x.var(axes, unbiased=False)
    standardized = (x - mean.view(shape)) / (variance.view(shape) + 1e-5).sqrt()
    return standardized * norm.weight.view(shape) + norm.bias.view(shape)


def conditional_norm(x: Tensor, latent: Tensor, norm: nn.Module) -> Tensor:
    mean, variance = norm.running_mean, norm.running_var
    if norm.training:
        scalar = len(mean) == 1
        mean = x.mean() if scalar else x.mean(0)
        variance = x.var(unbiased=False) if scalar else x.var(0, unbiased=False)
    return norm.gamma(latent) * (x - mean) / (variance + 1e-5).sqrt() + norm.beta(latent)


def residual_block(x: Tensor, block: ResidualBlock) -> tuple[Tensor, Tensor]:
    fine = pade(batch_norm(block.convolution1(x), block.normalization1), block.activation1)
    hidden = batch_norm(block.convolution2(functional.avg_pool3d(fine, 2)), block.normalization2)
    return pade(hidden + functional.avg_pool3d(block.shortcut(x), 2), block.activation2), fine


def mapping(x: Tensor, module: ConvBlock) -> Tensor:
    return pade(batch_norm(module.convolution(x), module.normalization), module.activation)


def encode(network: OccupancyNetwork, x: Tensor) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    encoder, maps, seen = network.encoder, [], []
    for index, block in enumerate(encoder.blocks):
        x, fine = residual_block(x, block)
        seen += [x] if seen else [fine, x]
        if network.config.skip_connections:
            maps.append(
                mapping(functional.adaptive_max_pool3d(x, network.config.latent_grid), encoder.skips[index])
            )
    features = torch.cat(maps, 1) if maps else functional.adaptive_max_pool3d(x, network.config.latent_grid)
    auxiliary = None if encoder.auxiliary is None else encoder.auxiliary(x)
    if encoder.pyramid is not None:
        seen = pyramid(seen, encoder.pyramid)
    return mapping(features, encoder.latent).flatten(2), auxiliary, seen


def pyramid(maps: list[Tensor], module: FeaturePyramid) -> list[Tensor]:
    levels: list[Tensor] = []
    for level, x in list(zip(module.levels, maps, strict=True))[::-1]:
        merged = level.lateral(x)
        if levels:
            merged = merged + level.top_down(functional.interpolate(levels[0], merged.shape[2:]))
        hidden = batch_norm(level.convolution(merged), level.normalization)
        levels = [pade(hidden + merged, level.activation), *levels]
    return levels


def sample(maps: list[Tensor], coordinates: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Feature maps at points, by torch's own interpolation."""
    inward = coordinates.new_tensor([1 - 1 / edge for edge in grid])
    places = (coordinates * inward).flip(2)[:, :, None, None]
    sampled = [
        functional.grid_sample(each, places, padding_mode="border", align_corners=False) for each in maps
    ]
    return torch.cat([each.flatten(2).transpose(1, 2) for each in sampled], 2)


def decode(
    network: OccupancyNetwork,
    latent: Tensor,
    maps: list[Tensor],
    coordinates: Tensor,
    patches: Tensor | None,
    grid: tuple[int, ...],
) -> Tensor:
    batch, points = coordinates.shape[:2]
    each = latent.repeat_interleave(points, 0)
    place = coordinates.flatten(0, 1)
    if network.config.coordinates == "voxel":
        place = (place + 1) / 2 * (place.new_tensor(grid) - 1)
    parts = [place]
    if patches is not None:
        encoder = network.patch_encoder
        hidden = pade(encoder.convolution1(patches.flatten(0, 1)), encoder.activation1)
        parts.append(pade(encoder.convolution2(hidden), encoder.activation2).flatten(1))
    if network.config.feature_query:
        parts.append(sample(maps, coordinates, grid).flatten(0, 1))
    x = torch.cat([*parts, each[:, 0]], 1)
    for index, block in enumerate(network.decoder.blocks, 1):
        own = each[:, min(index, each.shape[1] - 1)]
        hidden = conditional_norm(block.linear1(x), own, block.normalization1)
        hidden = block.linear2(pade(hidden, block.activation1))
        hidden = conditional_norm(hidden, own, block.normalization2)
        shortcut = block.shortcut(x) if isinstance(block, InputBlock) else x
        x = pade(hidden + shortcut, block.activation2)
    return network.decoder.output(x).view(batch, points, -1)


def forward(
    network: OccupancyNetwork, x: Tensor, coordinates: Tensor, patches: Tensor | None, grid: tuple[int, ...]
) -> tuple[Tensor, Tensor | None]:
    latent, auxiliary, maps = encode(network, x)
    return decode(network, latent, maps, coordinates, patches, grid), auxiliary
