"""The state of each voxel during a prediction, and interpolation between the points of a lattice.

Letters: L logits, M N points, X Y Z voxel axes in nibabel's order; x y z points or cells of a lattice.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor
from torch.nn import functional

from ossnet.data.labels.scheme import ClassScheme
from ossnet.inference.query.encoded_volume import EncodedVolume

SMOOTH_DISTANCE = 4
"""Voxels between points within which a logit hardly changes more than between neighbors."""
_BACKGROUND_LAST = 255
_PLANES_AT_ONCE = 16
_PLACES_AT_ONCE = 1 << 16  # whose three indices are held at once


class VoxelState:
    """The code of each voxel so far, whether the network decided it, and the way to query more."""

    def __init__(self, volume: EncodedVolume, scheme: ClassScheme, *, device: torch.device) -> None:
        self.volume = volume
        self.scheme = scheme
        self.codes = torch.zeros(volume.shape, dtype=torch.uint8, device=device)
        """The code of each voxel (`ossnet.data.labels.scheme`), evaluated or interpolated."""
        self.evaluated = torch.zeros(volume.shape, dtype=torch.bool, device=device)
        """Voxels that the network decided."""

    def query(self, todo: Bool[Tensor, "X Y Z"]) -> None:
        """Let the network decide these voxels."""
        for _ in self._evaluate(todo):
            pass

    def query_logits(self, todo: Bool[Tensor, "X Y Z"]) -> Float[Tensor, "N L"]:
        """Let the network decide these voxels, and return their logits, the last axis running fastest."""
        return torch.cat([*self._evaluate(todo)])

    def _evaluate(self, todo: Bool[Tensor, "X Y Z"]) -> Iterator[Float[Tensor, "M L"]]:
        for part in todo.flatten().nonzero()[:, 0].split(_PLACES_AT_ONCE):
            places = unravel(part, todo.shape)
            for voxels, logits in self.volume.points(places):
                self.codes[voxels.unbind(1)] = self.scheme.decide(logits)
                yield logits
        self.evaluated |= todo

    def interpolate_rest(
        self, logits: Float[Tensor, "L x y z"], stride: int, refine_threshold: float
    ) -> Bool[Tensor, "X Y Z"]:
        """Decide what was not evaluated by interpolating the logits of a lattice.

        Returns:
            The voxels among these that are ambiguous (`is_ambiguous`).
        """
        refine_mask, planes = torch.zeros_like(self.evaluated), max(1, _PLANES_AT_ONCE // stride)
        for first in range(0, logits.shape[1], planes):
            x = slice(first * stride, (first + planes) * stride)
            shape = self.codes[x].shape
            between = upsample_linear(logits[:, first : first + planes + 1], stride, shape)
            codes = self.scheme.decide(between.flatten(1).T).view(shape)
            self.codes[x] = torch.where(self.evaluated[x], self.codes[x], codes)
            refine_mask[x] = is_ambiguous(between, refine_threshold, stride, self.scheme) & ~self.evaluated[x]
        return refine_mask

    def trace_boundary(self) -> None:
        """Query next to every change of code until all changes lie between evaluated voxels.

        Components connected by corners only are followed where `query_similar` does not search for them.
        """
        corners = not self.volume.uses_patches
        while (todo := boundary_mask(self.codes, corners=corners) & ~self.evaluated).any():
            self.query(todo)


def unravel(places: Int[Tensor, " N"], shape: Sequence[int]) -> Int[Tensor, "N 3"]:
    """Voxel indices of places in a flattened grid (torch's own loads forty MiB of symbolic mathematics)."""
    rows = places // shape[2]
    return torch.stack([rows // shape[1], rows % shape[1], places % shape[2]], 1)


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
    """
    padded = functional.pad(logits[None], (0, 1) * 3, mode="replicate")
    size = [edge * stride + 1 for edge in logits.shape[1:]]
    fine = functional.interpolate(padded, size=size, mode="trilinear", align_corners=True)[0]
    return fine[(slice(None), *map(slice, shape))]


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
    reach = -math.log(refine_threshold / (1 - refine_threshold)) * max(1, stride / SMOOTH_DISTANCE)
    margin = scheme.margins(logits.flatten(1).T)
    return ((margin > -reach) & (margin < reach / 2)).any(1).view(logits.shape[1:])


def cell_reduce(points: Shaped[Tensor, "x y z"], extreme: Callable[..., Tensor]) -> Shaped[Tensor, "x y z"]:
    """The extreme (`torch.maximum`, `torch.logical_or`) of the corners of each cell, as many as there are."""
    return _over(points, extreme, before=False)


def corner_mask(cells: Bool[Tensor, "x y z"]) -> Bool[Tensor, "x y z"]:
    """The points that are a corner of some of these cells."""
    return _over(cells, torch.logical_or, after=False)


def boundary_mask(codes: UInt8[Tensor, "X Y Z"], *, corners: bool) -> Bool[Tensor, "X Y Z"]:
    """Mask of the voxels where one of the six neighbors has another code, or (`corners`) one of the 26
    another class.

    Components that are connected by corners only are followed that way; of holes in them the faces suffice.
    """
    boundary = torch.zeros_like(codes, dtype=torch.bool)
    for axis in range(3):
        length = codes.shape[axis] - 1
        before, after = codes.narrow(axis, 0, length), codes.narrow(axis, 1, length)
        change = before != after
        boundary.narrow(axis, 0, length).logical_or_(change)
        boundary.narrow(axis, 1, length).logical_or_(change)
    if corners:
        classes = torch.where(codes == 0, _BACKGROUND_LAST, codes)
        boundary |= _over(codes, torch.maximum) != codes
        boundary |= _over(classes, torch.minimum) < codes
    return boundary


def _over(
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
