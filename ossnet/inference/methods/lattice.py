"""The points of a lattice of voxels, and interpolation between them.

Letters: L logits, N points, X Y Z voxel axes in nibabel's order; x y z points or cells of a lattice.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from ossnet.data.labels.scheme import ClassScheme

VALUES_AT_ONCE = 1 << 20
"""Logits that are interpolated at once, where that is more than `FEWEST_PLANES` of a lattice's."""
FEWEST_PLANES = 2
"""Planes of a lattice that are interpolated together at least: each time one more is needed."""
SMOOTH_DISTANCE = 4
"""Voxels between points within which a logit hardly changes more than between neighbors."""


def subgrid(voxels: Shaped[Tensor, "X Y Z"], stride: int) -> Shaped[Tensor, "x y z"]:
    """The points of a lattice, as a view."""
    return voxels[::stride, ::stride, ::stride]


def upsample_nearest(
    cells: Shaped[Tensor, "x y z"], stride: int, shape: Sequence[int]
) -> Shaped[Tensor, "X Y Z"]:
    """Every voxel gets the value of its cell, the one that begins at the last point before it."""
    for axis in range(3):
        cells = cells.repeat_interleave(stride, axis)
    return cells[tuple(slice(edge) for edge in shape)].contiguous()


def upsample_linear(
    logits: Float[Tensor, "L x y z"], stride: int, shape: Sequence[int]
) -> Float[Tensor, "L X Y Z"]:
    """Values at a lattice's points and between them, linear in the eight points around.

    Beyond the last point of an axis they are those of the last point.

    Args:
        stride: voxels between points, a power of two: means of neighbors take a fifth of the time of torch's
            own interpolation, and give the same again and again.
    """
    while stride > 1:
        stride //= 2  # between points from now on; of those, so many are needed
        needed = [edge if stride == 1 else (edge - 1) // stride + 2 for edge in shape]
        for axis in (3, 2, 1):
            logits = _with_means(logits, axis, min(2 * logits.shape[axis], needed[axis - 1]))
    return logits[(slice(None), *map(slice, shape))]


def _with_means(values: Float[Tensor, "L _ _ _"], axis: int, length: int) -> Float[Tensor, "L _ _ _"]:
    """So many values along an axis: each, followed by its mean with the next one, the last by itself."""
    both = values.new_empty([length if each == axis else edge for each, edge in enumerate(values.shape)])
    index = (slice(None),) * axis
    own, between = both[(*index, slice(0, None, 2))], both[(*index, slice(1, None, 2))]
    own.copy_(values.narrow(axis, 0, own.shape[axis]))
    pairs = min(between.shape[axis], values.shape[axis] - 1)
    first, second = values.narrow(axis, 0, pairs), values.narrow(axis, 1, pairs)
    torch.add(first, second, out=between.narrow(axis, 0, pairs)).mul_(0.5)
    if pairs < between.shape[axis]:
        between.narrow(axis, pairs, 1).copy_(values.narrow(axis, pairs, 1))
    return both


def slabs(lattice: Float[Tensor, "L x y z"], stride: int) -> Iterator[slice]:
    """Planes of a lattice, so few at once that what is interpolated `stride` times as fine stays small."""
    plane = lattice[:, 0].numel() * stride**3
    planes = max(FEWEST_PLANES, VALUES_AT_ONCE // max(plane, 1))
    for first in range(0, lattice.shape[1], planes):
        yield slice(first, first + planes)


def is_ambiguous(
    logits: Float[Tensor, "L *points"], refine_threshold: float, stride: int, scheme: ClassScheme
) -> Bool[Tensor, "*points"]:
    """Mask of the voxels where another class is possible than the one decided, from logits of points `stride`
    voxels apart.

    The farther apart they are, the more a logit may change in between: up to four voxels, `refine_threshold`
    is the probability that suffices were there no third class; beyond that its log odds grow with the
    distance. Voxels decided as foreground are queried at half that distance: a hole costs voxels, where a
    miss may cost a connected component.
    """
    reach = _reach(refine_threshold, stride)
    margin = scheme.margins(logits.flatten(1).T)
    return ((margin > -reach) & (margin < reach / 2)).any(1).view(logits.shape[1:])


def may_be_foreground(
    logits: Float[Tensor, "L *points"], refine_threshold: float, stride: int, scheme: ClassScheme
) -> Bool[Tensor, "*points"]:
    """Mask of the points that are foreground, or where `is_ambiguous` holds.

    Between points of which this holds for none it holds nowhere: their logits are interpolated linearly, and
    the background's is ahead of every class's at each of them.
    """
    margin = scheme.margins(logits.flatten(1).T)
    return (margin > -_reach(refine_threshold, stride)).any(1).view(logits.shape[1:])


def _reach(refine_threshold: float, stride: int) -> float:
    """The log odds against a class up to which it is possible between points `stride` voxels apart."""
    return -math.log(refine_threshold / (1 - refine_threshold)) * max(1, stride / SMOOTH_DISTANCE)


def extent(points: Bool[Tensor, "y z"]) -> tuple[slice, slice] | None:
    """The rows and columns from one before the first point of a mask to one after the last; None without."""
    ranges = []
    for axis in range(2):
        places = points.any(1 - axis).nonzero()[:, 0].tolist()
        if not places:
            return None
        ranges.append(slice(max(places[0] - 1, 0), min(places[-1] + 2, points.shape[axis])))
    return ranges[0], ranges[1]


def interpolate_at(
    lattice: Float[Tensor, "x y z"], stride: int, voxels: Int[Tensor, "N 3"]
) -> Float[Tensor, " N"]:
    """What `upsample_linear` gives at single voxels."""
    low, total = voxels // stride, torch.zeros(len(voxels), device=lattice.device)
    share = (voxels % stride) / stride
    last = torch.tensor(lattice.shape, device=lattice.device) - 1
    for corner in product((0, 1), repeat=3):
        end = torch.tensor(corner, device=lattice.device)
        x, y, z = (low + end).minimum(last).unbind(1)
        total += lattice[x, y, z] * torch.where(end == 1, share, 1 - share).prod(1)
    return total


def cell_reduce(points: Shaped[Tensor, "x y z"], extreme: Callable[..., Tensor]) -> Shaped[Tensor, "x y z"]:
    """The extreme (`torch.maximum`, `torch.logical_or`) of the corners of each cell, as many as there are."""
    return over_neighbors(points, extreme, before=False)


def corner_mask(cells: Bool[Tensor, "x y z"]) -> Bool[Tensor, "x y z"]:
    """The points that are a corner of some of these cells."""
    return over_neighbors(cells, torch.logical_or, after=False)


def over_neighbors(
    volume: Shaped[Tensor, "x y z"],
    extreme: Callable[..., Tensor],
    *,
    before: bool = True,
    after: bool = True,
) -> Shaped[Tensor, "x y z"]:
    """The extreme of each place and those up to one before or after it along every axis."""
    for axis in range(3):
        length = volume.shape[axis] - 1
        first, last = volume.narrow(axis, 0, length), volume.narrow(axis, 1, length)
        volume = volume.clone()
        for start, other, wanted in ((0, last, after), (1, first, before)):
            if wanted:
                part = volume.narrow(axis, start, length)
                extreme(part, other, out=part)
    return volume
