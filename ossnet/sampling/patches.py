"""Patches around points, gathered in bulk from one padded volume.

Letters: C channels, N points, P patch edge, X Y Z voxel axes in nibabel's order.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


class PatchSource:
    """A volume made ready for gathering: patches reach beyond its grid, where voxels read as zero.

    The local patch of a point is the P^3 block centred on its voxel. The mid-range patch covers the (2P)^3
    voxels from P before to P - 1 after it, average-pooled 2^3 to P^3 (paper, section 3; the reference's
    inference pools by the maximum, which is a fault). Its cells are voxels of the volume averaged 2^3 once,
    two apart, so no larger block is ever gathered.
    """

    def __init__(self, volume: Float[Tensor, "C X Y Z"], *, edge: int, local: bool, mid_range: bool) -> None:
        self._windows: list[Tensor] = []
        if local:
            self._windows.append(_windows(functional.pad(volume, [edge // 2] * 6), edge, step=1))
        if mid_range:
            self._windows.append(_windows(_averaged(functional.pad(volume, [edge] * 6)), edge, step=2))

    def gather(self, indices: Int[Tensor, "N 3"]) -> Float[Tensor, "N C P P P"]:
        """Patches at voxel indices inside the volume; local channels first, then mid-range ones."""
        x, y, z = indices.unbind(1)
        return torch.cat([windows[x, y, z] for windows in self._windows], dim=1)


def _averaged(volume: Tensor) -> Tensor:
    """The mean of 2^3 voxels at every voxel; three sums of neighbours, several times as fast as pooling."""
    for axis in (-1, -2, -3):
        length = volume.shape[axis] - 1
        volume = volume.narrow(axis, 0, length) + volume.narrow(axis, 1, length)
    return volume.div_(8)


def _windows(padded: Tensor, edge: int, *, step: int) -> Tensor:
    """A view `[X Y Z C P P P]` of every window of `edge` cells, `step` voxels apart."""
    reach = (edge - 1) * step + 1
    shape = [length - reach + 1 for length in padded.shape[1:]]
    strides = padded.stride()
    return padded.as_strided(
        [*shape, padded.shape[0], edge, edge, edge],
        [*strides[1:], strides[0], *(stride * step for stride in strides[1:])],
    )
