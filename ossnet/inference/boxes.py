"""Cutting a volume into boxes of at most so many voxels, and the patches of a whole box at once.

Letters: C channels, N points, P patch edge, X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ossnet.sampling.grid import Shape
from ossnet.sampling.patches import PatchSource

Box = tuple[slice, slice, slice]


def boxes(shape: Sequence[int], voxels: int) -> Iterator[Box]:
    """Boxes of at most `voxels` voxels that tile a grid, each a run of whole slabs, rows or voxels."""
    x, y, z = shape
    steps = (max(1, voxels // (y * z)), max(1, min(y, voxels // z)), min(z, voxels))
    for start_x in range(0, x, steps[0]):
        for start_y in range(0, y, steps[1]):
            for start_z in range(0, z, steps[2]):
                yield tuple(  # type: ignore[misc]
                    slice(start, min(start + step, edge))
                    for start, step, edge in zip((start_x, start_y, start_z), steps, shape, strict=True)
                )


def indices(box: Box, device: torch.device) -> Int[Tensor, "N 3"]:
    """Voxel indices of a box, the last axis running fastest."""
    return torch.cartesian_prod(*(torch.arange(edge.start, edge.stop, device=device) for edge in box))


def box_shape(box: Box) -> Shape:
    """Voxels along each axis."""
    x, y, z = (edge.stop - edge.start for edge in box)
    return x, y, z


class BoxPatches(PatchSource):
    """Gathers the patches of whole boxes too, where neighbours share most of what is read."""

    def gather_box(self, box: Box) -> Float[Tensor, "N C P P P"]:
        """Patches of every voxel of a box, in the order of `indices`: `gather`, some three times as fast."""
        patches = [windows[box] for windows in self._windows]
        # One copy straight into place: joining first and reshaping after would make two.
        shape = patches[0].shape
        joined = patches[0].new_empty(*shape[:3], sum(each.shape[3] for each in patches), *shape[4:])
        start = 0
        for each in patches:
            joined[:, :, :, start : start + each.shape[3]] = each
            start += each.shape[3]
        return joined.flatten(0, 2)
