"""Conversion between a file's own grid and the working grid (RAS, perhaps cropped and resampled).

Legend: X Y Z voxel axes in nibabel order. Affines take voxel indices to mm in RAS+ world coordinates.
"""

from dataclasses import dataclass, replace
from itertools import product
from math import ceil
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from ossnet.errors import UserError

Matrix = tuple[tuple[float, ...], ...]
Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""Start and stop along each axis."""

Axes = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""For each axis of an array, the axis of another one that it lies along, and 1 or -1 for its direction."""

STRAIGHT: Axes = ((0, 1), (1, 1), (2, 1))
"""The axes of an array that is stored as the other one is."""

MM_PER_UNIT = {"mm": 1.0, "micron": 1e-3, "meter": 1e3}
"""Millimeters in a unit of a header; what states none is taken to be in mm."""

NO_PLACEMENT = (
    "neither sform nor qform says where the voxels are (both codes are 0): the first axis is taken to run "
    "to the left, the second to the front, the third up"
)
"""What is to be said of a scan that is not `placed`."""

GRID_TOLERANCE = 0.1
"""Largest distance in voxels between corners of grids that count as one: above rounding in headers, below
what matters."""


@dataclass(frozen=True)
class Geometry:
    """All that is needed to bring an array on the working grid back to the grid and header of its file."""

    shape: Shape
    """Voxels of the file along its own three axes."""
    affine: Matrix
    """The file's affine as readers see it (sform, else qform, else the header's voxel sizes), in mm."""
    sform: Matrix | None
    """The affine of the sform in mm; None where its code is 0."""
    sform_code: int
    qform: Matrix | None
    """The affine of the qform in mm; None where its code is 0, or where it is broken beside a good sform."""
    qform_code: int
    zooms: Spacing
    """Voxel sizes in mm as the header states them, along the file's own axes."""
    units: tuple[str, str]
    """Units of space and time of the file as nibabel names them; all lengths here are in mm all the same."""
    working_shape: Shape
    """Voxels along R, A and S of the working grid."""
    box: Box | None = None
    """The part that the working grid covers, in voxels along the file's own axes; None is all of it."""

    @property
    def mm_per_unit(self) -> float:
        """Millimeters in a unit of length of the file."""
        return MM_PER_UNIT.get(self.units[0], 1.0)

    @property
    def placed(self) -> bool:
        """Whether the header says where the voxels are, and so which side is left."""
        return self.sform_code > 0 or self.qform_code > 0

    @property
    def crop_slices(self) -> tuple[slice, slice, slice]:
        """The box as an index into an array on the file's grid."""
        first, second, third = self.box or tuple((0, size) for size in self.shape)
        return slice(*first), slice(*second), slice(*third)

    @property
    def orientation(self) -> Float[np.ndarray, "3 2"]:
        """The nearest RAS axis of each axis of the file, and its direction, as in nibabel."""
        from nibabel.orientations import io_orientation

        return io_orientation(np.array(self.affine))

    @property
    def kept_shape(self) -> Shape:
        """Voxels of the box along the file's own axes."""
        first, second, third = (part.stop - part.start for part in self.crop_slices)
        return first, second, third

    @property
    def canonical_shape(self) -> Shape:
        """Voxels of the box along R, A and S before resampling."""
        targets = self.orientation[:, 0].astype(int)
        first, second, third = (self.kept_shape[int(np.flatnonzero(targets == axis)[0])] for axis in range(3))
        return first, second, third

    @property
    def canonical_affine(self) -> Float[np.ndarray, "4 4"]:
        """Affine of the box's voxels once reordered to RAS."""
        from nibabel.orientations import inv_ornt_aff

        move = np.eye(4)
        move[:3, 3] = [part.start for part in self.crop_slices]
        return np.array(self.affine) @ move @ inv_ornt_aff(self.orientation, self.kept_shape)

    @property
    def canonical_spacing(self) -> Spacing:
        """Voxel size of the file in mm along R, A and S."""
        first, second, third = np.linalg.norm(self.canonical_affine[:3, :3], axis=0).tolist()
        return first, second, third

    @property
    def working_affine(self) -> Float[np.ndarray, "4 4"]:
        """Affine of the working grid: it covers the same box as the kept voxels, edge to edge."""
        factor = np.array(self.canonical_shape) / np.array(self.working_shape)
        step = np.diag([*factor, 1.0])
        step[:3, 3] = (factor - 1) / 2  # the first voxel's center moves with its size
        return self.canonical_affine @ step

    @property
    def spacing(self) -> Spacing:
        """Voxel size of the working grid in mm along R, A and S."""
        first, second, third = np.linalg.norm(self.working_affine[:3, :3], axis=0).tolist()
        return first, second, third

    def resampled_to(self, spacing: Spacing | None) -> "Geometry":
        """A copy with a working grid of about this spacing in mm; None is the file's own spacing.

        The number of voxels is rounded, so the exact spacing is that of `spacing` afterwards.
        """
        shape = self.canonical_shape
        if spacing is None:
            return replace(self, working_shape=shape)
        sizes = np.array(shape) * np.array(self.canonical_spacing)
        first, second, third = np.maximum(1, np.rint(sizes / np.array(spacing))).astype(int).tolist()
        return replace(self, working_shape=(first, second, third))

    def cropped_to(self, box: Box, margin: float) -> "Geometry":
        """A copy cut to a box and `margin` mm around it, as far as there are voxels; not resampled."""
        sizes = np.linalg.norm(np.array(self.affine)[:3, :3], axis=0)
        first, second, third = (
            (max(start - ceil(margin / size), 0), min(stop + ceil(margin / size), length))
            for (start, stop), size, length in zip(box, sizes, self.shape, strict=True)
        )
        return replace(self, box=(first, second, third)).resampled_to(None)


def to_canonical(array: Shaped[np.ndarray, "X Y Z"], geometry: Geometry) -> Shaped[np.ndarray, "X Y Z"]:
    """A view of an array on the file's grid, its axes reordered and flipped to RAS."""
    from nibabel.orientations import apply_orientation

    return apply_orientation(array, geometry.orientation)


def from_canonical(array: Shaped[np.ndarray, "X Y Z"], geometry: Geometry) -> Shaped[np.ndarray, "X Y Z"]:
    """A view of an array in RAS order, its axes reordered and flipped to those of the file."""
    from nibabel.orientations import apply_orientation, ornt_transform

    ras = np.array([[0, 1], [1, 1], [2, 1]])
    return apply_orientation(array, ornt_transform(ras, geometry.orientation))


def check_same_grid(found: Geometry, expected: Geometry, *, path: Path, other: str) -> Axes:
    """Reject two files whose voxels are not at the same positions, in whatever order they are stored.

    Args:
        path: the file with the grid `found`.
        other: what the other file is, for the message.

    Returns:
        How the axes of `found` lie along those of `expected`.

    Raises:
        UserError: shapes differ, or the affines put a corner more than `GRID_TOLERANCE` voxels apart.
    """
    axes = _axes_along(found, expected)
    if found.shape != stored_shape(expected.shape, axes):
        raise UserError(
            path,
            expected=f"the shape {expected.shape} of {other}",
            found=str(found.shape),
            remedy="resample it to that grid or remove the case",
        )
    apart = corner_distance(found, expected, axes)
    smallest = min(np.linalg.norm(np.array(expected.affine)[:3, :3], axis=0))
    if apart > GRID_TOLERANCE * smallest:
        wrong_header = "" if axes != STRAIGHT else ", or copy the header if only that is wrong"
        raise UserError(
            path,
            expected=f"the grid of {other}",
            found=f"its affine up to {apart:.3g} mm away",
            remedy=f"resample it to that grid{wrong_header}",
        )
    return axes


def stored_shape(shape: Shape, axes: Axes) -> Shape:
    """The shape of an array whose axes lie so along those of an array of the shape given."""
    first, second, third = (shape[axis] for axis, _ in axes)
    return first, second, third


def corner_distance(found: Geometry, expected: Geometry, axes: Axes = STRAIGHT) -> float:
    """Largest distance in mm between the positions of the same corner voxel on two grids.

    Args:
        axes: how those of `found` lie along those of `expected`.
    """
    ends = [(0, size - 1) for size in found.shape]
    corners = np.array([[*corner, 1] for corner in product(*ends)])
    step = np.zeros((4, 4))
    step[3, 3] = 1
    for own, (axis, direction) in enumerate(axes):
        step[axis, own] = direction
        step[axis, 3] = expected.shape[axis] - 1 if direction < 0 else 0
    apart = corners @ (np.array(found.affine) - np.array(expected.affine) @ step).T
    return float(np.linalg.norm(apart[:, :3], axis=1).max())


def _axes_along(found: Geometry, expected: Geometry) -> Axes:
    """How the axes of one grid lie along those of another; straight where they are not parallel to them."""
    steps = np.linalg.solve(np.array(expected.affine)[:3, :3], np.array(found.affine)[:3, :3])
    rounded = np.rint(steps)
    ones = np.abs(rounded) == 1
    if not (np.isin(rounded, (-1, 0, 1)).all() and (ones.sum(0) == 1).all() and (ones.sum(1) == 1).all()):
        return STRAIGHT
    first, second, third = (
        (int(axis), int(rounded[axis, own])) for own, axis in enumerate(np.argmax(ones, axis=0))
    )
    return first, second, third
