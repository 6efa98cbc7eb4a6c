"""Walking a large tensor in pieces that fit a core's cache: a chain of operations then reads it once.

Letters: B batch, N rows (points or voxels), W features.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

Tile = tuple[slice, slice]


def tiles(tensor: Float[Tensor, "B N W"], elements: int) -> Iterator[Tile]:
    """Index a contiguous tensor by contiguous pieces [1, rows, W] of about so many elements.

    On fake tensors, which have no values, the first piece stands for all: live memory is the same.
    """
    batch, points, features = tensor.shape
    rows = max(1, min(points, elements // features))
    for i in range(batch):
        for j in range(0, points, rows):
            yield slice(i, i + 1), slice(j, j + rows)
            if isinstance(tensor, FakeTensor):
                return


def planes(count: int, tensor: Tensor) -> range:
    """Index the planes of a tensor that are worked on one by one.

    Of fake tensors two: the second is made while what the first left still lives.
    """
    return range(min(count, 2) if isinstance(tensor, FakeTensor) else count)


def pick(tensor: Float[Tensor, "B 1 W"], tile: Tile) -> Float[Tensor, "1 1 W"]:
    """The row of a tensor that belongs to a tile's volume; with one row for all, that row."""
    return tensor if len(tensor) == 1 else tensor[tile[0]]


def working_dtype(tensor: Tensor) -> torch.dtype:
    """Arithmetic inside a tile: float32, or float64 for float64 data."""
    return torch.promote_types(tensor.dtype, torch.float32)


def load(tensor: Tensor, buffer: Tensor) -> Tensor:
    """A piece of a tensor in the arithmetic precision: itself, or a copy in the buffer."""
    return tensor if tensor.dtype == buffer.dtype else buffer.copy_(tensor)
