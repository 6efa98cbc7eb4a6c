"""The state of each voxel during a prediction, and the ways to query more of them.

Few voxels of a scan are queried, so they are given by their places in the flattened grid: lists of them cost
what they hold, where each pass over a whole volume costs as much as many queries.

Letters: L logits, M N points or places, X Y Z voxel axes in nibabel's order; x y z points of a lattice.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ossnet.data.labels.scheme import ClassScheme
from ossnet.inference.methods.boundary import boundary_mask, places_beside
from ossnet.inference.methods.lattice import (
    extent,
    is_ambiguous,
    may_be_foreground,
    slabs,
    upsample_linear,
)
from ossnet.inference.methods.places import box_places, ravel, true_places, unravel
from ossnet.inference.query.boxes import Box
from ossnet.inference.query.encoded_volume import EncodedVolume

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
        self.n_changed = 0
        """Voxels so far that the network gave another code than they had."""
        self._changed: list[Tensor] = []  # their places, as far as no boundary was traced from them
        self._interpolated: list[Box] = []  # boxes of interpolated codes in which none was traced

    def query(self, places: Int[Tensor, " N"]) -> None:
        """Let the network decide these voxels."""
        for _ in self._evaluate(places):
            pass

    def query_points(
        self, points: Bool[Tensor, "x y z"], stride: int, logits: Float[Tensor, "L x y z"]
    ) -> None:
        """Let the network decide the voxels at some points of a lattice, and write their logits into it."""
        at, done = true_places(points), 0
        places = ravel(unravel(at, points.shape) * stride, self.codes.shape)
        for part in self._evaluate(places):
            logits.view(len(logits), -1)[:, at[done : done + len(part)]] = part.T
            done += len(part)

    def query_rest(self) -> None:
        """Let the network decide all voxels that it has not decided yet."""
        for first in range(0, len(self.codes), _PLANES_AT_ONCE):
            planes = slice(first, first + _PLANES_AT_ONCE)
            self.query(true_places(~self.evaluated[planes]) + first * self.codes[0].numel())

    def _evaluate(self, places: Int[Tensor, " N"]) -> Iterator[Float[Tensor, "M L"]]:
        codes, evaluated = self.codes.view(-1), self.evaluated.view(-1)
        for part in places.split(_PLACES_AT_ONCE):
            decided = []
            for _, logits in self.volume.points(unravel(part, self.codes.shape)):
                decided.append(self.scheme.decide(logits))
                yield logits
            new = torch.cat([*decided, codes[:0]])
            changed = part[codes[part] != new]
            self.n_changed += len(changed)
            self._changed.append(changed)
            codes[part] = new
            evaluated[part] = True

    def interpolate_rest(
        self, logits: Float[Tensor, "L x y z"], stride: int, refine_threshold: float
    ) -> Int[Tensor, " N"]:
        """Decide what was not evaluated by interpolating the logits of a lattice.

        Where none of the points around may be foreground, what lies between them is background.

        Returns:
            Places of the voxels among these that are ambiguous (`is_ambiguous`).
        """
        ambiguous = [torch.zeros(0, dtype=torch.long, device=logits.device)]
        for cells in slabs(logits, stride):
            points = logits[:, cells.start : cells.stop + 1]
            found = extent(may_be_foreground(points, refine_threshold, stride, self.scheme).any(0))
            if found is None:
                continue
            box = self._covered((cells, *found), stride)
            between = upsample_linear(
                points[(slice(None), slice(None), *found)], stride, self.codes[box].shape
            )
            unknown = ~self.evaluated[box]
            decided = self.scheme.decide(between.flatten(1).T).view(unknown.shape)
            self.codes[box] = torch.where(unknown, decided, self.codes[box])
            unknown &= is_ambiguous(between, refine_threshold, stride, self.scheme)
            ambiguous.append(box_places(unknown, box, self.codes.shape))
            self._interpolated.append(box)
        return torch.cat(ambiguous)

    def _covered(self, lattice: tuple[slice, slice, slice], stride: int) -> Box:
        """The voxels from the first of these points of a lattice to the last; along X up to the one after."""
        planes, *others = lattice
        shape = self.codes.shape
        y, z = (
            slice(part.start * stride, edge if part.stop * stride >= edge else (part.stop - 1) * stride + 1)
            for part, edge in zip(others, shape[1:], strict=True)
        )
        return slice(planes.start * stride, min(planes.stop * stride, shape[0])), y, z

    def trace_boundary(self) -> None:
        """Query next to every change of code until all changes lie between evaluated voxels.

        Components connected by corners only are followed where `query_similar` does not search for them.
        """
        todo = self._untraced()
        while len(todo):
            self.query(todo)
            todo = self._untraced()

    def _untraced(self) -> Int[Tensor, " N"]:
        """Places of voxels that are not evaluated, next to changes of code that came since this was asked."""
        boxes, changed = self._interpolated, torch.cat([*self._changed, self.codes.new_zeros(0).long()])
        self._interpolated, self._changed = [], []
        corners = not self.volume.uses_patches
        found = [places_beside(changed, self.codes, corners=corners)]
        found += [self._boundary(box, corners=corners) for box in boxes]
        places = torch.cat(found)
        return places[~self.evaluated.view(-1)[places]].unique()

    def _boundary(self, box: Box, *, corners: bool) -> Int[Tensor, " N"]:
        """Places in a box, and next to it, that lie next to a change of code."""
        x, y, z = (slice(max(part.start - 1, 0), part.stop + 1) for part in box)
        return box_places(boundary_mask(self.codes[x, y, z], corners=corners), (x, y, z), self.codes.shape)
