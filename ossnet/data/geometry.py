"""Where voxels are: from a file's own grid to the working grid (RAS, where asked resampled) and back.

Legend: X Y Z voxel axes in nibabel order. Affines take voxel indices to mm in RAS+ world coordinates.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Shaped

Matrix = tuple[tuple[float, ...], ...]
Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Geometry:
    """All that is needed to bring an array on the working grid back to the grid and header of its file."""

    shape: Shape
    """Voxels of the file along its own three axes."""
    affine: Matrix
    """The file's affine as readers see it (sform, else qform, else the header's voxel sizes)."""
    sform: Matrix | None
    """None where the code is 0, as for `qform`."""
    sform_code: int
    qform: Matrix | None
    qform_code: int
    zooms: Spacing
    """Voxel sizes as the header states them, along the file's own axes."""
    units: tuple[str, str]
    """Units of space and time as nibabel names them."""
    working_shape: Shape
    """Voxels along R, A and S of the working grid."""

    @property
    def orientation(self) -> Float[np.ndarray, "3 2"]:
        """For each axis of the file, the RAS axis it is nearest to and its direction, as in nibabel."""
        from nibabel.orientations import io_orientation

        return io_orientation(np.array(self.affine))

    @property
    def canonical_shape(self) -> Shape:
        """Voxels along R, A and S before resampling."""
        targets = self.orientation[:, 0].astype(int)
        first, second, third = (self.shape[int(np.flatnonzero(targets == axis)[0])] for axis in range(3))
        return first, second, third

    @property
    def canonical_affine(self) -> Float[np.ndarray, "4 4"]:
        """Affine of the file's voxels once reordered to RAS."""
        from nibabel.orientations import inv_ornt_aff

        return np.array(self.affine) @ inv_ornt_aff(self.orientation, self.shape)

    @property
    def working_affine(self) -> Float[np.ndarray, "4 4"]:
        """Affine of the working grid: it covers the same box as the file, edge to edge."""
        factor = np.array(self.canonical_shape) / np.array(self.working_shape)
        step = np.diag([*factor, 1.0])
        step[:3, 3] = (factor - 1) / 2  # the first voxel's centre moves with its size
        return self.canonical_affine @ step

    @property
    def spacing(self) -> Spacing:
        """Voxel size of the working grid in mm along R, A and S."""
        first, second, third = np.linalg.norm(self.working_affine[:3, :3], axis=0).tolist()
        return first, second, third

    def at_spacing(self, spacing: Spacing | None) -> "Geometry":
        """The same file with a working grid of about this spacing in mm; None is the file's own spacing.

        The number of voxels is rounded, so the exact spacing is that of `spacing` afterwards.
        """
        shape = self.canonical_shape
        if spacing is None:
            return replace(self, working_shape=shape)
        own = np.linalg.norm(self.canonical_affine[:3, :3], axis=0)
        counts = np.maximum(1, np.rint(np.array(shape) * own / np.array(spacing))).astype(int)
        first, second, third = counts.tolist()
        return replace(self, working_shape=(first, second, third))


def to_canonical(array: Shaped[np.ndarray, "X Y Z"], geometry: Geometry) -> Shaped[np.ndarray, "X Y Z"]:
    """A view of an array on the file's grid, its axes reordered and flipped to RAS."""
    from nibabel.orientations import apply_orientation

    return apply_orientation(array, geometry.orientation)


def restore(labels: Shaped[np.ndarray, "X Y Z"], geometry: Geometry) -> Shaped[np.ndarray, "X Y Z"]:
    """Bring labels on the working grid back to the file's grid (nearest voxel where it was resampled).

    Raises:
        ValueError: the array does not have the working shape of the geometry.
    """
    from nibabel.orientations import apply_orientation, ornt_transform

    from ossnet.data.resampling import nearest

    if labels.shape != geometry.working_shape:
        msg = f"expected the working shape {geometry.working_shape}, found {labels.shape}"
        raise ValueError(msg)
    canonical = nearest(labels, geometry.canonical_shape)
    ras = np.array([[0, 1], [1, 1], [2, 1]])
    return np.ascontiguousarray(apply_orientation(canonical, ornt_transform(ras, geometry.orientation)))
