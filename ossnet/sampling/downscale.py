"""Coarser volumes, straight from a store's float16: the encoder's input, mid-range cells, coarse masks.

Letters: C channels, X Y Z voxel axes in nibabel's order (x y z: coarser).
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ossnet.sampling.grid import offset
from ossnet.sampling.transforms.planes import PlaneReader


def downscale(
    image: Float[np.ndarray, "C X Y Z"], working: Sequence[int], factor: int
) -> Float[Tensor, "C x y z"]:
    """The volume in its frame averaged over factor^3 voxels, which trilinear interpolation by a factor of 2
    comes to; no framed copy is made."""
    return downscale_planes(PlaneReader(image), working, factor)


def downscale_planes(
    planes: PlaneReader | Sequence[Float[Tensor, "C Y Z"]], working: Sequence[int], factor: int
) -> Float[Tensor, "C x y z"]:
    """Average a volume's planes along its first axis over factor^3 voxels in its frame, on their device."""
    first_plane = planes[0]
    shape = (first_plane.shape[0], len(planes), *first_plane.shape[1:])
    before = offset(shape[1:], working)
    cells = [edge // factor for edge in working]
    coarse = first_plane.new_zeros(shape[0], *cells)
    frame = first_plane.new_zeros(shape[0], *working[1:])
    inner = frame.narrow(1, before[1], shape[2]).narrow(2, before[2], shape[3])
    for x in range(cells[0]):
        first = x * factor - before[0]
        inside = range(max(first, 0), min(first + factor, len(planes)))
        if not inside:
            continue
        inner.copy_(planes[inside[0]])
        for index in inside[1:]:
            inner.add_(planes[index])
        coarse[:, x] = _sum(_sum(frame, 1, factor), 2, factor)
    return coarse.div_(factor**3)


def box_average(image: Float[np.ndarray, "C X Y Z"], *, least: int) -> Float[np.ndarray, "I C J K"]:
    """The mean of 2^3 voxels at every voxel and half beyond, where voxels read as zero.

    Cell `[i, :, j, k]` covers voxels i - 1 and i, j - 1 and j, k - 1 and k, so that there is a cell more than
    voxels along each axis; short axes are filled up with zeros to `least` cells.
    """
    planes, (channels, _, y, z) = PlaneReader(image), image.shape
    lengths = [max(edge + 1, least) for edge in image.shape[1:]]
    shape = (lengths[0], channels, *lengths[1:])
    full = lengths == [edge + 1 for edge in image.shape[1:]]
    means = np.empty(shape, np.float32) if full else np.zeros(shape, np.float32)
    cells = torch.from_numpy(means)[:, :, : y + 1, : z + 1]
    frame = torch.zeros(channels, y + 2, z + 2)
    inner, rows = frame[:, 1:-1, 1:-1], torch.empty(channels, y + 1, z + 2)
    before = torch.zeros(channels, y, z)
    for x in range(len(planes) + 1):
        if x < len(planes):
            here = planes[x]
            torch.add(before, here, out=inner)
            before.copy_(here)
        else:
            inner.copy_(before)
        torch.add(frame[:, :-1], frame[:, 1:], out=rows)
        torch.add(rows[..., :-1], rows[..., 1:], out=cells[x]).mul_(0.125)
    return means


def max_pool_any(mask: Bool[Tensor, "X Y Z"], grid: Sequence[int]) -> Bool[Tensor, "x y z"]:
    """Whether a cell of a coarser grid holds any voxel of a mask: adaptive maximum pooling."""
    held = mask.view(torch.uint8)  # the maximum of bytes is faster than `any`
    for axis, cells in enumerate(grid):
        length = held.shape[axis]
        ends = [(cell * length // cells, -(-(cell + 1) * length // cells)) for cell in range(cells)]
        held = torch.stack([held.narrow(axis, low, high - low).amax(axis) for low, high in ends], axis)
    return held.bool()


def _sum(volume: Tensor, axis: int, factor: int) -> Tensor:
    """Sums of `factor` neighbors along an axis, whole groups only."""
    before, cells = (slice(None),) * axis, volume.shape[axis] // factor
    total = volume[(*before, slice(0, cells * factor, factor))]
    for start in range(1, factor):
        total = total + volume[(*before, slice(start, cells * factor, factor))]
    return total
