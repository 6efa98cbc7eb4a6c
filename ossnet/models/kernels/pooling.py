"""Halving and re-gridding feature maps of any shape.

Letters: B batch, C channels, X Y Z voxel axes.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from ossnet.models.kernels.precision import working_dtype
from ossnet.models.kernels.tiles import planes


def avg_pool_2x(volume: Float[Tensor, "B C X Y Z"]) -> Float[Tensor, "B C x y z"]:
    """Average over 2x2x2 voxels; an odd axis of length n becomes (n + 1) / 2 even, overlapping cells.

    Cells divide the volume's extent evenly at any shape, so that coarse maps stay aligned with the volume.
    """
    with torch.autocast(volume.device.type, enabled=False):
        if all(edge % 2 == 0 for edge in volume.shape[2:]):
            return _Halve.apply(volume)
        return functional.adaptive_avg_pool3d(volume, _shape(-(-edge // 2) for edge in volume.shape[2:]))


def adaptive_max_pool(volume: Float[Tensor, "B C X Y Z"], grid: Sequence[int]) -> Float[Tensor, "B C x y z"]:
    """Greatest value in each cell of a grid that divides the extent evenly; itself on the same grid."""
    if tuple(volume.shape[2:]) == tuple(grid):
        return volume
    with torch.autocast(volume.device.type, enabled=False):  # on CPUs it would keep a copy in float32
        return functional.adaptive_max_pool3d(volume, _shape(grid))


def enlarge(volume: Float[Tensor, "B C x y z"], shape: Sequence[int]) -> Float[Tensor, "B C X Y Z"]:
    """Repeat cells so that they fill a grid of the given shape, about twice as fine."""
    with torch.autocast(volume.device.type, enabled=False):
        if all(edge == 2 * half for edge, half in zip(shape, volume.shape[2:], strict=True)):
            return _Double.apply(volume)
        return functional.interpolate(volume, _shape(shape), mode="nearest")


def _shape(edges: Iterable[int]) -> tuple[int, int, int]:
    x, y, z = edges
    return x, y, z


class _Halve(torch.autograd.Function):
    """Average pooling, channels-last, that does not keep its input for the backward pass.

    On CPUs planes are added pair by pair, several times faster than torch's own pooling.
    """

    @staticmethod
    def forward(ctx: Any, volume: Tensor) -> Tensor:
        return _halved(volume, 0.125)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _doubled(gradient, 0.125)


class _Double(torch.autograd.Function):
    """Each cell eight times: what `_Halve` does to gradients, and the other way round."""

    @staticmethod
    def forward(ctx: Any, volume: Tensor) -> Tensor:
        return _doubled(volume, 1.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _halved(gradient, 1.0)


def _halved(volume: Float[Tensor, "B C X Y Z"], factor: float) -> Float[Tensor, "B C x y z"]:
    """The sum over 2x2x2 voxels times a factor."""
    if volume.device.type != "cpu":
        return functional.avg_pool3d(volume, 2, divisor_override=1).mul_(factor)
    rows = volume.contiguous(memory_format=torch.channels_last_3d).movedim(1, 4)
    return _add_pairs(rows, factor).movedim(4, 1)


def _doubled(volume: Float[Tensor, "B C x y z"], factor: float) -> Float[Tensor, "B C X Y Z"]:
    """Each cell times a factor, eight times."""
    if volume.device.type != "cpu":
        return functional.interpolate(volume * factor, scale_factor=2, mode="nearest")
    rows = volume.contiguous(memory_format=torch.channels_last_3d).movedim(1, 4)
    return _spread(rows, factor).movedim(4, 1)


def _add_pairs(volume: Float[Tensor, "B X Y Z C"], factor: float) -> Float[Tensor, "B x y z C"]:
    batch, x, y, z, channels = volume.shape
    dtype = working_dtype(volume)
    halved = volume.new_empty(batch, x // 2, y // 2, z // 2, channels)
    for i in planes(x // 2, volume):
        rows = torch.add(volume[:, 2 * i].to(dtype), volume[:, 2 * i + 1]).view(batch, y // 2, 2, -1)
        pairs = torch.add(rows[:, :, 0], rows[:, :, 1]).view(batch, y // 2, z // 2, 2 * channels)
        halved[:, i] = torch.add(pairs[..., :channels], pairs[..., channels:]).mul_(factor)
    return halved


def _spread(volume: Float[Tensor, "B x y z C"], factor: float) -> Float[Tensor, "B X Y Z C"]:
    batch, x, y, z, channels = volume.shape
    spread = volume.new_empty(batch, 2 * x, 2 * y, 2 * z, channels)
    rows = spread.view(batch, x, 2, y, 2, 2 * z * channels)
    for i in planes(x, volume):
        scaled = volume[:, i] * factor
        pairs = torch.cat([scaled, scaled], 3).view(batch, 1, y, 1, -1)
        rows[:, i] = pairs
    return spread
