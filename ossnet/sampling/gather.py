"""Patches around points for a training step, gathered in bulk from a volume as the store maps it.

The same patches as `PatchSource` gives, which serves inference where the volume lives on the device. Here the
volume stays what it is, read-only float16 and perhaps mirrored: rows of a patch are copied as they lie, and
voxels beyond the grid become zero afterwards.

Letters: C channels, N points, P patch edge, X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

from ossnet.sampling.shrink import pairs

_CHUNK = 256  # points whose patches stay in the processor's cache


def gather_patches(
    image: Float[np.ndarray, "C X Y Z"],
    indices: Int[Tensor, "N 3"],
    patches: Float[Tensor, "N Cp P P P"],
    *,
    local: bool,
    mid_range: bool,
) -> None:
    """Fill patches at voxel indices inside the volume: local channels first, then mid-range ones.

    Points in the order of the volume's voxels are gathered fastest.
    """
    channels, edge, points = len(image), patches.shape[-1], indices.numpy()
    if local:
        rows = _local_windows(image, edge)
        _gather(rows, image.dtype, points - edge // 2, patches[:, :channels], step=1)
    if mid_range:
        cells = _mid_range_windows(image, edge)
        _gather(cells, cells.dtype, points - edge + 1, patches[:, -channels:], step=2)


def empty(shape: Sequence[int]) -> Tensor:
    """Room for large results: numpy asks the system for large pages, which fill faster; torch does not."""
    return torch.from_numpy(np.empty(shape, np.float32))


def _local_windows(image: np.ndarray, edge: int) -> np.ndarray:
    """`[X Y Z C P P]` with whole rows as elements, which numpy copies at once."""
    missing = [max(edge - length, 0) for length in image.shape[1:]]
    if any(missing):
        image = np.pad(image, [(0, 0), *((0, more) for more in missing)])
    windows = sliding_window_view(image, (edge,) * 3, axis=(1, 2, 3)).transpose(1, 2, 3, 0, 4, 5, 6)
    return windows.view(f"V{edge * image.itemsize}")[..., 0]


def _mid_range_windows(image: np.ndarray, edge: int) -> np.ndarray:
    """`[X Y Z C P P P]` of cells two apart; a window at index i begins with voxels i - 1 and i."""
    windows = sliding_window_view(pairs(image, least=2 * edge), (2 * edge - 1,) * 3, axis=(0, 2, 3))
    return windows[..., ::2, ::2, ::2].transpose(0, 2, 3, 1, 4, 5, 6)


def _gather(
    windows: np.ndarray, dtype: np.dtype[Any], starts: np.ndarray, patches: Tensor, *, step: int
) -> None:
    """Fill patches from windows of `dtype`; those that begin outside come from the nearest in step, moved."""
    last = np.array(windows.shape[:3]) - 1
    low = np.where(starts < 0, starts % step, starts)
    begun = np.where(low > last, last - (last - low) % step, low)
    moves = (starts - begun) // step
    for first in range(0, len(starts), _CHUNK):
        part = patches[first : first + _CHUNK]
        rows = windows[tuple(begun[first : first + _CHUNK].T)].view(dtype)
        part.copy_(torch.from_numpy(rows.reshape(part.shape)))
    for axis in range(3):
        for move in np.unique(moves[:, axis]).tolist():
            if move:
                chosen = torch.from_numpy((moves[:, axis] == move).nonzero()[0])
                patches[chosen] = _moved(patches[chosen], axis + 2, move)


def _moved(patches: Tensor, axis: int, cells: int) -> Tensor:
    """What lies `cells` further along the axis, zero where there is nothing."""
    moved = torch.zeros_like(patches)
    kept = max(patches.shape[axis] - abs(cells), 0)
    source, target = max(cells, 0), max(-cells, 0)
    if kept:
        moved.narrow(axis, target, kept).copy_(patches.narrow(axis, source, kept))
    return moved
