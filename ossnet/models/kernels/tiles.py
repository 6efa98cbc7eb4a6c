"""Walking a large tensor in parts: tiles that fit a core's cache, planes, and slices of points.

Letters: B batch, N rows (points or voxels), W features.
"""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from ossnet.models.kernels._fake import is_fake

Tile = tuple[slice, slice]
"""Indices of a tile's volume and of its rows."""

_CPU_POINTS = 1 << 12
_DEVICE_POINTS = 1 << 16


def tiles(tensor: Float[Tensor, "B N W"], elements: int) -> Iterator[Tile]:
    """Index a contiguous tensor by contiguous tiles [1, rows, W] of about `elements` numbers.

    A chain of operations on a tile that fits the cache reads memory once. Of a fake tensor, which has no
    values, the first tile stands for all: live memory is the same.
    """
    batch, points, features = tensor.shape
    rows = max(1, min(points, elements // features))
    for i in range(batch):
        for j in range(0, points, rows):
            yield slice(i, i + 1), slice(j, j + rows)
            if is_fake(tensor):
                return


def planes(count: int, tensor: Tensor) -> range:
    """Index the planes of a tensor that are processed one by one.

    Of a fake tensor there are two: the second is made while the results of the first still live.
    """
    return range(min(count, 2) if is_fake(tensor) else count)


def chunked(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Compute `function(*inputs)` of tensors [B, N, ...] over slices of N: memory stays that of one slice.

    It is right only where no gradient or batch statistic ties the points together.
    """
    size = _CPU_POINTS if inputs[0].device.type == "cpu" else _DEVICE_POINTS
    points = inputs[0].shape[1]
    if points <= size:
        return function(*inputs)
    starts = range(0, points, size)
    return torch.cat([function(*(each[:, start : start + size] for each in inputs)) for start in starts], 1)


def pick(tensor: Float[Tensor, "B 1 W"], tile: Tile) -> Float[Tensor, "1 1 W"]:
    """The row of a tensor that belongs to a tile's volume; with one row for all volumes, that row."""
    return tensor if len(tensor) == 1 else tensor[tile[0]]


def load(tensor: Tensor, buffer: Tensor) -> Tensor:
    """A tensor in a buffer's precision: itself where it has that already, else its copy in the buffer."""
    return tensor if tensor.dtype == buffer.dtype else buffer.copy_(tensor)
