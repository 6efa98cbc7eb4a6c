"""Coarser volumes, straight from a store's float16: the encoder's input, mid-range cells, coarse masks.

Letters: C channels, X Y Z voxel axes in nibabel's order (x y z: coarser).
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from ossnet.sampling.grid import offset
from ossnet.sampling.transforms import planes
from ossnet.sampling.transforms.planes import PlaneReader

DEVICE_CELLS = 16
"""Planes of cells that are made at once on a device."""


def downscale(
    image: Float[Tensor, "C X Y Z"],
    mirrored: Sequence[int],
    working: Sequence[int],
    factor: int,
    *,
    out: Float[Tensor, "C x y z"],
) -> None:
    """Average the mirrored volume in its frame over factor^3 voxels; no framed copy is made.

    Trilinear interpolation by a factor of 2 comes to the same.

    Args:
        mirrored: voxel axes along which the volume is mirrored first.
        out: room for the averages.
    """
    if planes.on_cpu(image):
        downscale_planes(PlaneReader(image, mirrored), working, factor, out=out)
    else:
        _downscale_slabs(image, mirrored, working, factor, out)


def _downscale_slabs(
    image: Tensor, mirrored: Sequence[int], working: Sequence[int], factor: int, out: Tensor
) -> None:
    """Average some planes of cells at once, which other devices than CPUs like better than one by one."""
    before, axes = offset(image.shape[1:], working), [axis + 1 for axis in mirrored]
    planes_before, length = before[0], image.shape[1]
    for first in range(0, out.shape[1], DEVICE_CELLS):
        coarse = out[:, first : first + DEVICE_CELLS]
        start = first * factor - planes_before
        end = start + coarse.shape[1] * factor
        low, high = max(start, 0), min(end, length)
        if low >= high:
            coarse.zero_()
            continue
        slab = image[:, length - high : length - low] if 0 in mirrored else image[:, low:high]
        frame = image.new_zeros(image.shape[0], end - start, *working[1:], dtype=torch.float32)
        inner = frame[:, low - start : high - start].narrow(2, before[1], image.shape[2])
        inner.narrow(3, before[2], image.shape[3]).copy_(slab.flip(axes))
        coarse.copy_(functional.avg_pool3d(frame, factor))


def downscale_planes(
    volume: PlaneReader | Sequence[Float[Tensor, "C Y Z"]],
    working: Sequence[int],
    factor: int,
    *,
    out: Float[Tensor, "C x y z"] | None = None,
) -> Float[Tensor, "C x y z"]:
    """Average a volume's planes along its first axis over factor^3 voxels in its frame, on their device.

    Args:
        out: room for the averages, by default new memory.
    """
    first_plane = volume[0]
    shape = (first_plane.shape[0], len(volume), *first_plane.shape[1:])
    before = offset(shape[1:], working)
    cells = [edge // factor for edge in working]
    coarse = first_plane.new_empty(shape[0], *cells) if out is None else out
    frame = first_plane.new_zeros(shape[0], *working[1:])
    inner = frame.narrow(1, before[1], shape[2]).narrow(2, before[2], shape[3])
    for x in range(cells[0]):
        first = x * factor - before[0]
        inside = range(max(first, 0), min(first + factor, len(volume)))
        if not inside:
            coarse[:, x] = 0
            continue
        inner.copy_(volume[inside[0]])
        for index in inside[1:]:
            inner.add_(volume[index])
        torch.div(_sum(_sum(frame, 1, factor), 2, factor), factor**3, out=coarse[:, x])
    return coarse


def box_average(
    image: Float[Tensor, "C X Y Z"], mirrored: Sequence[int], *, least: int
) -> Float[np.ndarray, "I C J K"]:
    """The mean of 2^3 voxels at every voxel of the mirrored volume and half beyond, where all is zero.

    Cell `[i, :, j, k]` covers voxels i - 1 and i, j - 1 and j, k - 1 and k, so that there is a cell more than
    voxels along each axis; short axes are filled up with zeros to `least` cells.
    """
    reader, (channels, _, y, z) = PlaneReader(image, mirrored), image.shape
    lengths = [max(edge + 1, least) for edge in image.shape[1:]]
    shape = (lengths[0], channels, *lengths[1:])
    full = lengths == [edge + 1 for edge in image.shape[1:]]
    means = np.empty(shape, np.float32) if full else np.zeros(shape, np.float32)
    cells = torch.from_numpy(means)[:, :, : y + 1, : z + 1]
    frame = torch.zeros(channels, y + 2, z + 2)
    inner, rows = frame[:, 1:-1, 1:-1], torch.empty(channels, y + 1, z + 2)
    before = torch.zeros(channels, y, z)
    for x in range(len(reader) + 1):
        if x < len(reader):
            here = reader[x]
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


def classes_in_cells(
    codes: UInt8[Tensor, "X Y Z"], grid: Sequence[int], classes: int
) -> Bool[Tensor, "K x y z"]:
    """Whether a cell of a coarser grid holds any voxel of each class: as `max_pool_any` of each class's mask.

    Time and memory do not grow with the classes.

    Args:
        codes: 0 for the background, else a class counted from 1.
        grid: its cells overlap along an axis that they do not divide evenly.
    """
    held = torch.zeros(*grid, classes + 1, dtype=torch.bool, device=codes.device)
    rows = held.view(grid[0], -1)
    along = [_cells_of_voxels(length, cells) for length, cells in zip(codes.shape, grid, strict=True)]
    for x, y, z in product(*along):
        places = ((y[:, None] * grid[2] + z) * (classes + 1)).to(codes.device)
        for plane, cell in zip(codes, x.tolist(), strict=True):
            rows[cell].index_fill_(0, (places + plane).flatten(), True)
    return held[..., 1:].movedim(3, 0)


def _cells_of_voxels(length: int, cells: int) -> list[Int[Tensor, " X"]]:
    """The first cell that holds each voxel along an axis and, where cells overlap, the last one too."""
    voxels = torch.arange(length)
    first, last = voxels * cells // length, ((voxels + 1) * cells - 1) // length
    return [first] if torch.equal(first, last) else [first, last]


def _sum(volume: Tensor, axis: int, factor: int) -> Tensor:
    """Sums of `factor` neighbors along an axis, whole groups only."""
    before, cells = (slice(None),) * axis, volume.shape[axis] // factor
    total = volume[(*before, slice(0, cells * factor, factor))]
    for start in range(1, factor):
        total = total + volume[(*before, slice(start, cells * factor, factor))]
    return total
