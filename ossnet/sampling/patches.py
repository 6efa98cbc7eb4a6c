"""Patches around points, gathered in bulk from a volume in memory.

Letters: C channels, N points, P patch edge, X Y Z voxel axes in nibabel's order; I J K cells.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


class PatchGrid(NamedTuple):
    """The volume that patches are gathered from: voxels, or means of several."""

    values: Float[Tensor, "C I J K"]
    """The cells; beyond them patches read zero."""
    step: int
    """Cells between neighbors in a patch."""
    before: int
    """Offset from a patch's first cell to the cell whose index is that of the patch's voxel."""


class PatchSource:
    """A volume that patches are gathered from: they reach beyond its grid, where voxels read as zero.

    The local patch of a point is the P^3 block centered on its voxel. The mid-range patch covers the (2P)^3
    voxels from P before to P - 1 after it, average-pooled 2^3 to P^3 (paper, section 3; the reference's
    inference pools by the maximum, which is a fault). Its cells are voxels of the volume averaged 2^3 once,
    two apart, so no larger block is ever gathered. The volume itself is not copied.
    """

    def __init__(self, volume: Float[Tensor, "C X Y Z"], *, edge: int, local: bool, mid_range: bool) -> None:
        self._edge = edge
        self._cells: list[PatchGrid] = []
        if local:
            self._cells.append(PatchGrid(volume, 1, edge // 2))
        if mid_range:
            self._cells.append(PatchGrid(_averaged(functional.pad(volume, [1] * 6)), 2, edge - 1))

    def gather(self, indices: Int[Tensor, "N 3"]) -> Float[Tensor, "N C P P P"]:
        """Patches at voxel indices inside the volume; local channels first, then mid-range ones."""
        return torch.cat([take_patches(cells, indices, self._edge) for cells in self._cells], dim=1)


def take_patches(
    cells: PatchGrid, indices: Int[Tensor, "N 3"], edge: int, mirrored: Sequence[int] = ()
) -> Float[Tensor, "N C P P P"]:
    """Patches of `edge` cells at indices of the volume mirrored along some axes, which is not made."""
    device, values = indices.device, cells.values
    steps = torch.arange(edge, device=device) * cells.step - cells.before
    places = indices[:, :, None] + steps
    nearest = places.clamp(min=0).minimum(torch.tensor(values.shape[1:], device=device)[:, None] - 1)
    there = (places == nearest).unbind(1)
    for axis in mirrored:
        nearest[:, axis] = values.shape[1 + axis] - 1 - nearest[:, axis]
    x, y, z = nearest.unbind(1)
    channels = torch.arange(len(values), device=device)[:, None, None, None]
    patches = values[
        channels, x[:, None, :, None, None], y[:, None, None, :, None], z[:, None, None, None, :]
    ]
    for axis, inside in enumerate(there):
        shape = [len(indices), *[1] * 4]
        shape[2 + axis] = edge
        patches.mul_(inside.view(shape))
    return patches


def _averaged(volume: Tensor) -> Tensor:
    """The mean of 2^3 voxels at every voxel; three sums of neighbors, several times as fast as pooling."""
    for axis in (-1, -2, -3):
        length = volume.shape[axis] - 1
        volume = volume.narrow(axis, 0, length) + volume.narrow(axis, 1, length)
    return volume.div_(8)
