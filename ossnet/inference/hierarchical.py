"""Coarse to fine: decide a lattice, then only the voxels near a change of decision (paper, section 3.3).

Letters: X Y Z voxel axes in nibabel's order; x y z those of a lattice.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from ossnet.inference.decision import decide
from ossnet.inference.occupancy import EncodedVolume

COARSEST = 4
"""Voxels between points of the first lattice, as in the paper."""


def hierarchical_classes(
    volume: EncodedVolume, *, overlapping: bool, device: torch.device
) -> UInt8[Tensor, "X Y Z"]:
    """Codes, as `decide` gives them, of most voxels without asking the network.

    Each finer lattice inherits from the coarser one; then every point beside a change of class is asked, and
    again beside the changes that this brings, until all changes lie between points that were asked. So the
    result differs from the dense one only by whole pieces that hide between the points of the first lattice.
    Unlike in the paper, any number of classes or regions works, what was decided can be revised, and the
    interior is left alone. Of regions that overlap, a change of any one counts.
    """
    stride = COARSEST
    classes = torch.zeros([-(-edge // stride) for edge in volume.shape], dtype=torch.uint8, device=device)
    known = torch.zeros_like(classes, dtype=torch.bool)
    rule = partial(decide, overlapping=overlapping)
    _ask(volume, rule, classes, known, ~known, stride)
    while stride > 1:
        stride //= 2
        shape = [-(-edge // stride) for edge in volume.shape]
        classes, known = _refine(classes, known, shape)
        while (todo := _beside_change(classes) & ~known).any():
            _ask(volume, rule, classes, known, todo, stride)
    return classes


def _ask(
    volume: EncodedVolume,
    rule: Callable[[Tensor], Tensor],
    classes: UInt8[Tensor, "x y z"],
    known: Bool[Tensor, "x y z"],
    todo: Bool[Tensor, "x y z"],
    stride: int,
) -> None:
    """Let the network decide points of a lattice."""
    for voxels, logits in volume.points(todo.nonzero() * stride):
        x, y, z = (voxels // stride).unbind(1)
        classes[x, y, z] = rule(logits)
    known |= todo


def _refine(classes: Tensor, known: Tensor, shape: list[int]) -> tuple[Tensor, Tensor]:
    """The lattice twice as fine: points between inherit from the one before, without being known."""
    inside = tuple(slice(edge) for edge in shape)
    for axis in range(3):
        classes = classes.repeat_interleave(2, axis)
    finer = torch.zeros_like(classes, dtype=torch.bool)
    finer[::2, ::2, ::2] = known
    return classes[inside].contiguous(), finer[inside]


def _beside_change(classes: UInt8[Tensor, "x y z"]) -> Bool[Tensor, "x y z"]:
    """Where any of the 26 neighbours has another code."""
    low = high = classes
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
