"""Patches around points, gathered in bulk from a volume as it is.

On a CPU the volume is as the store maps it, read-only float16 and perhaps mirrored: rows of a patch are
copied as they lie, and voxels beyond the grid become zero afterwards. Other devices take patches of some
points at a time, so that nothing is made that is as large as the volume.

Letters: C channels, N points, P patch edge, X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor
from torch.nn import functional

from ossnet.sampling.downscale import box_average
from ossnet.sampling.patches import PatchGrid, take_patches
from ossnet.sampling.transforms import planes

_CHUNK = 256  # points whose patches stay in the processor's cache
PART_BYTES = 1 << 24
"""Bytes of float32 voxels that are gathered at once on a device, which needs half as much besides."""


def gather_patches(
    image: Float[Tensor, "C X Y Z"],
    mirrored: Sequence[int],
    indices: Int[Tensor, "N 3"],
    *,
    local: Float[Tensor, "N C P P P"] | None,
    mid_range: Float[Tensor, "N C P P P"] | None,
) -> None:
    """Fill patches at voxel indices inside a volume that is mirrored along some voxel axes.

    On a CPU points in the order of the volume's voxels are gathered fastest.
    """
    if planes.on_cpu(image):
        _gather_rows(image, mirrored, indices.numpy(), local=local, mid_range=mid_range)
        return
    places = indices.to(image.device)
    if local is not None:
        edge = local.shape[-1]
        for part, room in _parts(places, local, edge):
            room.copy_(take_patches(PatchGrid(image, 1, edge // 2), part, edge, mirrored))
    if mid_range is not None:
        edge = mid_range.shape[-1]
        for part, room in _parts(places, mid_range, 2 * edge):
            large = take_patches(PatchGrid(image, 1, edge), part, 2 * edge, mirrored)
            room.copy_(functional.avg_pool3d(large.float().flatten(0, 1), 2).view(room.shape))


def _parts(places: Tensor, patches: Tensor, edge: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Some points at a time and the room for their patches, which come from blocks of `edge` voxels."""
    size = max(PART_BYTES // (4 * patches.shape[1] * edge**3), 1)
    return zip(places.split(size), patches.split(size), strict=True)


def _gather_rows(
    image: Float[Tensor, "C X Y Z"],
    mirrored: Sequence[int],
    points: Int[np.ndarray, "N 3"],
    *,
    local: Float[Tensor, "N C P P P"] | None,
    mid_range: Float[Tensor, "N C P P P"] | None,
) -> None:
    if local is not None:
        seen, edge = np.flip(image.numpy(), tuple(axis + 1 for axis in mirrored)), local.shape[-1]
        fill(local, PatchWindows.rows(seen, edge), points - edge // 2)
    if mid_range is not None:
        edge = mid_range.shape[-1]
        cells = box_average(image, mirrored, least=2 * edge).transpose(1, 0, 2, 3)
        fill(mid_range, PatchWindows.apart(cells, edge, step=2), points - edge + 1)


class PatchWindows(NamedTuple):
    """The patches that begin at every cell of a volume, as views of it."""

    found: np.ndarray
    """`[S X Y Z C P P P]`, or whole rows, which numpy copies at once, as elements `[S X Y Z C P P]`: where
    S > 1 every S-th cell of the last axis lies together, and Z counts those."""
    last: Sequence[int]
    """Index of the last patch along each axis."""
    step: int
    """Voxels between cells of a patch."""
    dtype: np.dtype[Any]

    @classmethod
    def rows(cls, cells: Float[np.ndarray, "C I J K"], edge: int, *, step: int = 1) -> "PatchWindows":
        """Windows with rows as elements; with a step above 1, a copy is made in which a row's cells are
        contiguous."""
        reach = (edge - 1) * step + 1
        missing = [max(reach + step - 1 - length, 0) for length in cells.shape[1:]]  # a start for each step
        if any(missing):
            cells = np.pad(cells, [(0, 0), *((0, more) for more in missing)])
        elif cells.strides[3] != cells.itemsize:
            cells = np.ascontiguousarray(cells)
        last = [length - reach for length in cells.shape[1:]]
        parts = cells[None] if step == 1 else _split(cells, step)
        windows = sliding_window_view(parts, (reach, reach, edge), axis=(2, 3, 4))[..., ::step, ::step, :]
        rows = windows.transpose(0, 2, 3, 4, 1, 5, 6, 7).view(f"V{edge * cells.itemsize}")[..., 0]
        return cls(rows, last, step, cells.dtype)

    @classmethod
    def apart(cls, cells: Float[np.ndarray, "C I J K"], edge: int, *, step: int) -> "PatchWindows":
        """Windows without a copy, with single numbers as elements."""
        reach = (edge - 1) * step + 1
        windows = sliding_window_view(cells[None], (reach,) * 3, axis=(2, 3, 4))[..., ::step, ::step, ::step]
        return cls(
            windows.transpose(0, 2, 3, 4, 1, 5, 6, 7),
            [length - reach for length in cells.shape[1:]],
            step,
            cells.dtype,
        )

    def at(self, starts: Int[np.ndarray, "N 3"]) -> Float[np.ndarray, "N CPPP"]:
        """Those that begin at some cells."""
        (x, y, z), parts = starts.T, len(self.found)
        return self.found[z % parts, x, y, z // parts].view(self.dtype).reshape(len(starts), -1)


def _split(cells: Float[np.ndarray, "C I J K"], parts: int) -> Float[np.ndarray, "S C I J K"]:
    """Split the last axis into `parts` of every S-th cell; zero where the last of them are missing."""
    split = np.zeros((parts, *cells.shape[:3], -(-cells.shape[3] // parts)), cells.dtype)
    for start, part in enumerate(split):
        chosen = cells[..., start::parts]
        part[..., : chosen.shape[3]] = chosen
    return split


def fill(patches: Float[Tensor, "N C P P P"], windows: PatchWindows, starts: Int[np.ndarray, "N 3"]) -> None:
    """Patches that begin at some cells; those that begin outside come from the nearest in step, moved."""
    last, step = np.array(windows.last), windows.step
    low = np.where(starts < 0, starts % step, starts)
    begun = np.where(low > last, last - (last - low) % step, low)
    moves = (starts - begun) // step
    for first in range(0, len(starts), _CHUNK):
        part = patches[first : first + _CHUNK]
        part.copy_(torch.from_numpy(windows.at(begun[first : first + _CHUNK]).reshape(part.shape)))
    for axis in range(3):
        for move in np.unique(moves[:, axis]).tolist():
            if move:
                chosen = torch.from_numpy((moves[:, axis] == move).nonzero()[0])
                patches[chosen] = _moved(patches[chosen], axis + 2, move)


def _moved(patches: Tensor, axis: int, cells: int) -> Tensor:
    """The patches moved by `cells` along the axis, zero where there is nothing."""
    moved = torch.zeros_like(patches)
    kept = max(patches.shape[axis] - abs(cells), 0)
    source, target = max(cells, 0), max(-cells, 0)
    if kept:
        moved.narrow(axis, target, kept).copy_(patches.narrow(axis, source, kept))
    return moved
