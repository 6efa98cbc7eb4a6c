"""The grid a volume is seen on, and the grid its voxels are decided on, which need not be the same.

Letters: C channels, N points, X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ossnet.data import Geometry
from ossnet.data.imaging.geometry import Box, Matrix, Spacing
from ossnet.errors import UserError
from ossnet.models import NetworkConfig, OccupancyConfig
from ossnet.sampling.grid import Shape

_STEPS = 4096
"""Places are told this many times finer than voxels, so that rounding makes no voxel a place between two."""
_MOST_VOXELS = 2**32


@dataclass(frozen=True)
class QueryGrid:
    """Where the voxels to decide lie in an image: voxel i of an axis at `first + i * step`, in its own."""

    shape: Shape
    first: tuple[float, float, float]
    step: tuple[float, float, float]

    @classmethod
    def of_image(cls, shape: Sequence[int]) -> "QueryGrid":
        """The image's own voxels."""
        x, y, z = shape
        return cls((x, y, z), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    @classmethod
    def over(cls, image: Geometry, asked: Geometry) -> "QueryGrid":
        """The working grid of `asked` as it lies in that of `image`; both are of one file."""
        move = np.linalg.inv(image.working_affine) @ asked.working_affine
        (a, b, c), (u, v, w) = move[:3, 3].tolist(), np.diag(move)[:3].tolist()
        return cls(asked.working_shape, (a, b, c), (u, v, w))

    def mirrored(self, axes: Sequence[int], shape: Sequence[int]) -> "QueryGrid":
        """The same voxels in an image of this shape that was flipped along axes."""
        first, step = list(self.first), list(self.step)
        for axis in axes:
            first[axis], step[axis] = shape[axis] - 1 - first[axis], -step[axis]
        (a, b, c), (u, v, w) = first, step
        return QueryGrid(self.shape, (a, b, c), (u, v, w))

    @property
    def between(self) -> tuple[int, ...]:
        """The axes along which voxels lie between those of the image."""
        ends = ((self.first[axis] * _STEPS, self.step[axis] * _STEPS) for axis in range(3))
        return tuple(axis for axis, end in enumerate(ends) if any(round(each) % _STEPS for each in end))

    def places(self, voxels: Int[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """In voxels of the image."""
        first, step = voxels.new_tensor([self.first, self.step], dtype=torch.float64).unbind()
        return ((first + voxels * step) * _STEPS).round().div_(_STEPS).float()


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


def with_spacing(geometry: Geometry, spacing: Spacing) -> Geometry:
    """A file of another voxel size that covers the same space with the same axes, not resampled; of a cut
    one, what lies inside the cut.

    Args:
        spacing: mm along R, A and S; the number of voxels is rounded.

    Raises:
        UserError: more voxels than can be handled.
    """
    axes = geometry.orientation[:, 0].astype(int)
    extents = np.array(geometry.shape) * np.linalg.norm(np.array(geometry.affine)[:3, :3], axis=0)
    shape = np.maximum(1, np.rint(extents / np.array(spacing)[axes])).astype(int)
    if np.prod(shape.astype(float)) > _MOST_VOXELS:
        found = " x ".join(map(str, shape.tolist()))
        msg = f"spacing {spacing}: expected at most {_MOST_VOXELS} voxels, found {found}: take a larger one"
        raise UserError(msg)
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
