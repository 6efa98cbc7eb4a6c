"""Voxels decided one after another, and what lies between the points of a lattice.

Letters: C channels, X Y Z voxel axes in nibabel's order; x y z cells of a lattice.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor
from torch.nn import functional

from ossnet.inference.decision import decide
from ossnet.inference.occupancy import EncodedVolume


class Decided:
    """What is known of each voxel, and the way to ask for more."""

    def __init__(self, volume: EncodedVolume, *, overlapping: bool, device: torch.device) -> None:
        self.volume = volume
        self.overlapping = overlapping
        self.codes = torch.zeros(volume.shape, dtype=torch.uint8, device=device)
        self.known = torch.zeros(volume.shape, dtype=torch.bool, device=device)

    def ask(self, todo: Bool[Tensor, "X Y Z"]) -> None:
        """Let the network decide these voxels."""
        for voxels, logits in self.volume.points(todo.nonzero()):
            self.codes[voxels.unbind(1)] = decide(logits, overlapping=self.overlapping)
        self.known |= todo

    def follow(self) -> None:
        """Ask beside every change of code until all changes lie between voxels that were asked."""
        while (todo := beside_change(self.codes) & ~self.known).any():
            self.ask(todo)


def enlarge(cells: Shaped[Tensor, "x y z"], stride: int, shape: Sequence[int]) -> Shaped[Tensor, "X Y Z"]:
    """Every voxel gets the value of its cell, the one that begins at the last point before it."""
    for axis in range(3):
        cells = cells.repeat_interleave(stride, axis)
    return cells[tuple(slice(edge) for edge in shape)].contiguous()


def over_corners(points: Float[Tensor, "C x y z"]) -> Float[Tensor, "C x y z"]:
    """The largest value at the eight corners of each cell, as many of them as there are."""
    padded = functional.pad(points, (0, 1) * 3, value=-torch.inf)
    return functional.max_pool3d(padded[None], 2, stride=1)[0]


def beside_change(codes: UInt8[Tensor, "X Y Z"]) -> Bool[Tensor, "X Y Z"]:
    """Where any of the 26 neighbours has another code."""
    low = high = codes
    for axis in range(3):
        low, high = _over_neighbours(low, axis, torch.minimum), _over_neighbours(high, axis, torch.maximum)
    return low != high


def _over_neighbours(volume: Tensor, axis: int, extreme: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The extreme of each point and its neighbours along one axis."""
    result = volume.clone()
    inner = volume.shape[axis] - 1
    before, after = volume.narrow(axis, 0, inner), volume.narrow(axis, 1, inner)
    for start, other in ((0, after), (1, before)):
        part = result.narrow(axis, start, inner)
        part.copy_(extreme(part, other))
    return result
