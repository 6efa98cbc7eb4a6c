"""The grid an image is on, the grid its voxels are queried on, and what lies between the voxels of either.

Letters: C channels, N points, P patch edge, X Y Z voxel axes in nibabel's order; x y z those of another grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ossnet.data import Geometry
from ossnet.data.imaging.geometry import Box, Matrix, Spacing
from ossnet.errors import UserError
from ossnet.models import NetworkConfig, OccupancyConfig
from ossnet.sampling.grid import Shape
from ossnet.sampling.patches import PatchSource

_STEPS_PER_VOXEL = 4096
"""Positions are rounded to this fraction of a voxel, so that rounding errors put no voxel between two."""
_MAX_VOXELS = 2**32


@dataclass(frozen=True)
class QueryGrid:
    """The voxels to decide, within an image: voxel i of an axis lies at `first + i * step` image voxels."""

    shape: Shape
    """Voxels to decide along each axis."""
    first: tuple[float, float, float]
    """Position of the first of them, in voxels of the image."""
    step: tuple[float, float, float]
    """Distance between neighbors, in voxels of the image; negative where an axis is flipped."""

    @classmethod
    def of_image(cls, shape: Sequence[int]) -> "QueryGrid":
        """The image's own voxels."""
        x, y, z = shape
        return cls((x, y, z), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    @classmethod
    def over(cls, image: Geometry, requested: Geometry) -> "QueryGrid":
        """The working grid of `requested` as it lies in that of `image`; both belong to one file."""
        move = np.linalg.inv(image.working_affine) @ requested.working_affine
        (a, b, c), (u, v, w) = move[:3, 3].tolist(), np.diag(move)[:3].tolist()
        return cls(requested.working_shape, (a, b, c), (u, v, w))

    def mirrored(self, axes: Sequence[int], shape: Sequence[int]) -> "QueryGrid":
        """The indices of these voxels in an image of the given shape that was flipped along axes."""
        first, step = list(self.first), list(self.step)
        for axis in axes:
            first[axis], step[axis] = shape[axis] - 1 - first[axis], -step[axis]
        (a, b, c), (u, v, w) = first, step
        return QueryGrid(self.shape, (a, b, c), (u, v, w))

    @property
    def between(self) -> tuple[int, ...]:
        """The axes along which voxels lie between those of the image."""
        steps = _STEPS_PER_VOXEL
        ends = ((self.first[axis] * steps, self.step[axis] * steps) for axis in range(3))
        return tuple(axis for axis, end in enumerate(ends) if any(round(each) % steps for each in end))

    def positions(self, voxels: Int[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Positions of this grid's voxels, in voxels of the image."""
        first, step = voxels.new_tensor([self.first, self.step], dtype=torch.float64).unbind()
        return ((first + voxels * step) * _STEPS_PER_VOXEL).round().div_(_STEPS_PER_VOXEL).float()


def prediction_grid(config: NetworkConfig, shape: Sequence[int], working: Shape | None) -> Shape:
    """The working shape, widened where the volume is larger to a multiple that the encoder halves evenly."""
    multiple = config.grid_multiple if isinstance(config, OccupancyConfig) else 1
    if working is None:
        working = (multiple, multiple, multiple)
    x, y, z = (
        outer if edge <= outer else -(-edge // multiple) * multiple
        for edge, outer in zip(shape, working, strict=True)
    )
    return x, y, z


def interpolate_patches(
    source: PatchSource, positions: Float[Tensor, "N 3"], shape: Sequence[int], axes: Sequence[int]
) -> Float[Tensor, "N C P P P"]:
    """Patches around positions in an image of this shape, linear in the eight voxels around each.

    Beyond the outermost voxels of the image the patches are those of these voxels.

    Args:
        axes: the axes along which positions lie between voxels.
    """
    low, high, fraction = _neighbors(positions, shape)
    total: Tensor | None = None
    for corner in product((False, True), repeat=len(axes)):
        voxels, weight = low.clone(), torch.ones_like(fraction[:, 0])
        for axis, upper in zip(axes, corner, strict=True):
            weight = weight * (fraction[:, axis] if upper else 1 - fraction[:, axis])
            if upper:
                voxels[:, axis] = high[:, axis]
        patches, weight = source.gather(voxels), weight.view(-1, 1, 1, 1, 1)
        total = patches.mul_(weight) if total is None else total.addcmul_(patches, weight)
    assert total is not None
    return total


def resample_image(image: Float[Tensor, "C X Y Z"], grid: QueryGrid) -> Float[Tensor, "C x y z"]:
    """The image on another grid, by linear interpolation."""
    for axis, edge in enumerate(grid.shape):
        voxels = torch.arange(edge, device=image.device)[:, None].expand(-1, 3)
        positions = grid.positions(voxels)[:, axis : axis + 1]
        low, high, fraction = _neighbors(positions, image.shape[1 + axis : 2 + axis])
        before, after = (image.index_select(1 + axis, ends[:, 0]) for ends in (low, high))
        image = torch.lerp(before, after, fraction[:, 0].view(-1, *[1] * (2 - axis)))
    return image


def _neighbors(
    positions: Float[Tensor, "N D"], shape: Sequence[int]
) -> tuple[Int[Tensor, "N D"], Int[Tensor, "N D"], Float[Tensor, "N D"]]:
    """The voxels before and after positions along each axis, and how far towards the latter they lie."""
    last = torch.tensor(shape, device=positions.device) - 1
    inside = torch.minimum(positions.clamp(min=0), last)
    low = inside.long()
    return low, torch.minimum(low + 1, last), inside - low


def with_spacing(geometry: Geometry, spacing: Spacing) -> Geometry:
    """A file of another voxel size that covers the same space with the same axes, not resampled.

    Of a cropped file the crop keeps the voxels whose centers lie inside it.

    Args:
        spacing: mm along R, A and S; the number of voxels is rounded.

    Raises:
        UserError: more voxels than can be handled.
    """
    axes = geometry.orientation[:, 0].astype(int)
    extents = np.array(geometry.shape) * np.linalg.norm(np.array(geometry.affine)[:3, :3], axis=0)
    shape = np.maximum(1, np.rint(extents / np.array(spacing)[axes])).astype(int)
    if np.prod(shape.astype(float)) > _MAX_VOXELS:
        where, found = f"spacing {spacing}", " x ".join(map(str, shape.tolist()))
        expected = f"at most {_MAX_VOXELS} voxels"
        raise UserError(where, expected=expected, found=found, remedy="take a larger one")
    factor = np.array(geometry.shape) / shape
    step = np.diag([*factor, 1.0])
    step[:3, 3] = (factor - 1) / 2  # edge to edge: the first voxel's center moves with its size
    x, y, z = shape.tolist()
    first, second, third = (np.array(geometry.zooms) * factor).tolist()
    return replace(
        geometry,
        shape=(x, y, z),
        affine=_moved(geometry.affine, step),
        sform=None if geometry.sform is None else _moved(geometry.sform, step),
        qform=None if geometry.qform is None else _moved(geometry.qform, step),
        zooms=(first, second, third),
        box=None if geometry.box is None else _rescaled(geometry.box, factor, shape),
    ).resampled_to(None)


def _moved(matrix: Matrix, step: np.ndarray) -> Matrix:
    return tuple(tuple(row) for row in (np.array(matrix) @ step).tolist())


def _rescaled(box: Box, factor: np.ndarray, shape: np.ndarray) -> Box:
    """The voxels whose centers lie inside, at least one along each axis."""
    edges = []
    for (start, stop), size, length in zip(box, factor, shape.tolist(), strict=True):
        begin = min(int(np.ceil(start / size - 0.5)), length - 1)
        edges.append((begin, max(int(np.ceil(stop / size - 0.5)), begin + 1)))
    first, second, third = edges
    return first, second, third
