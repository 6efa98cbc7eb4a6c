"""A scan as Python code or an archive has it, in files or in memory, brought to the working grid.

Letters: C channels, X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

import numpy as np
from jaxtyping import Float, Real

from ossnet.data import Geometry, Scan, Task, preprocess
from ossnet.data.imaging.dicom import holds_dicom, only_series, read_series
from ossnet.data.imaging.geometry import check_same_grid, to_canonical
from ossnet.data.imaging.header import geometry_of, read_geometry
from ossnet.data.imaging.nifti import check_finite
from ossnet.data.imaging.normalization import foreground, normalize
from ossnet.data.imaging.preprocessing import crop_geometry, to_spacing
from ossnet.errors import UserError

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage

Image: TypeAlias = "Path | str | SpatialImage | np.ndarray"
"""A file (of a DICOM series any of its files, or a folder with that series alone), an image that nibabel has
read or made, or voxels as it gives them (channels last)."""
Images: TypeAlias = "Image | Sequence[Image] | Mapping[str, Image] | tuple[np.ndarray, np.ndarray]"
"""A scan: one image with all modalities, or one a modality, in the task's order or by its name. An array and
its affine are a pair too."""


def read_scan(images: Images, task: Task, *, affine: Float[np.ndarray, "4 4"] | None = None) -> Scan:
    """Read and preprocess one scan.

    Args:
        affine: of arrays, from voxel indices to mm in RAS+.

    Raises:
        UserError: a file is missing or broken, the scan has not the task's modalities on one grid, voxels are
            not finite real numbers, or an array has no affine that can be inverted.
    """
    if _is_pair(images):
        images, affine = images
    given = _in_order(images, task)
    paths = [Path(each) for each in given if isinstance(each, Path | str)]
    if not paths:
        return _preprocess([_Volume.of(each, affine) for each in given], task)
    if len(paths) < len(given):
        expected, found = "files only, or images in memory only", f"the file {paths[0]} among others"
        raise UserError("images", expected=expected, found=found, remedy="read it with nibabel.load")
    if any(map(holds_dicom, paths)):
        return _preprocess([_Volume.of_series(each) for each in paths], task)
    return preprocess(paths, task)


@dataclass(frozen=True)
class _Volume:
    """An image in memory."""

    voxels: Real[np.ndarray, "X Y Z C"]
    geometry: Geometry
    where: Path
    """What errors call it."""

    @classmethod
    def of_series(cls, path: Path) -> "_Volume":
        """Read a DICOM series, by one of its files or its folder."""
        voxels, affine = read_series(only_series(path))
        x, y, z = voxels.shape
        return cls(voxels[..., None], geometry_of(path, affine, (x, y, z), placed=True), path)

    @classmethod
    def of(cls, image: object, affine: np.ndarray | None) -> "_Volume":
        """Check an array with its affine, or an image of nibabel."""
        from nibabel.spatialimages import SpatialImage

        where = Path("array")
        if isinstance(image, SpatialImage):
            where = Path(str(image.get_filename() or "image"))
            voxels, affine = np.asanyarray(image.dataobj), image.affine
        elif isinstance(image, np.ndarray):
            voxels = image
        else:
            expected = "a path, an image of nibabel, or an array and its affine"
            raise UserError("images", expected=expected, found=type(image).__name__)
        if affine is None:
            expected, remedy = "an affine, from voxels to mm", "give affine=, as nibabel's images have it"
            raise UserError(where, expected=expected, found="an array alone", remedy=remedy)
        if voxels.ndim not in (3, 4) or voxels.dtype.kind not in "biuf":
            found = f"shape {voxels.shape} of {voxels.dtype}"
            raise UserError(where, expected="real numbers along three axes, and channels", found=found)
        voxels = voxels[..., None] if voxels.ndim == 3 else voxels
        return cls(voxels, _geometry(image, voxels.shape[:3], np.asarray(affine), where), where)

    def on_grid_of(self, first: "_Volume") -> "_Volume":
        """The same along the axes of another one, which has voxels at the same places.

        Raises:
            UserError: it has not.
        """
        from nibabel.orientations import apply_orientation

        axes = check_same_grid(self.geometry, first.geometry, path=self.where, other="the first image")
        return _Volume(apply_orientation(self.voxels, np.array(axes)), first.geometry, self.where)


def _is_pair(images: object) -> TypeGuard[tuple[np.ndarray, np.ndarray]]:
    """Whether this is an array and its affine."""
    if not (isinstance(images, tuple) and len(images) == 2):
        return False
    return all(isinstance(each, np.ndarray) for each in images) and images[1].ndim == 2


def _in_order(images: Images, task: Task) -> list[Image]:
    """The images of a scan in the order of the task's modalities.

    Raises:
        UserError: they are given by other names.
    """
    if isinstance(images, Mapping):
        if set(images) != set(task.modalities):
            expected = f"an image of each modality: {', '.join(task.modalities)}"
            raise UserError("images", expected=expected, found=", ".join(map(str, images)) or "none")
        return [images[name] for name in task.modalities]
    if isinstance(images, Sequence) and not isinstance(images, str):
        return list(images)
    return [images]


def _preprocess(volumes: Sequence[_Volume], task: Task) -> Scan:
    """As `ossnet.data.preprocess` does with files."""
    first, *others = volumes
    channels = sum(each.voxels.shape[3] for each in volumes)
    if channels != len(task.modalities):
        expected = f"{len(task.modalities)} channels ({', '.join(task.modalities)})"
        shapes = ", ".join(str(each.voxels.shape) for each in volumes)
        remedy = "give them on a fourth axis, or an image each"
        raise UserError(first.where, expected=expected, found=f"{channels} of shape {shapes}", remedy=remedy)
    voxels = [
        (channel, each.where)
        for each in (first, *(other.on_grid_of(first) for other in others))
        for channel in np.moveaxis(each.voxels, -1, 0)
    ]
    geometry = first.geometry
    if task.crop is not None:
        kinds = zip(voxels, task.normalizations, strict=True)
        foregrounds = ((0, foreground(values, kind)) for (values, _), kind in kinds)
        geometry = crop_geometry(foregrounds, geometry, task.crop)
    geometry = geometry.resampled_to(task.spacing)
    image = np.empty((channels, *geometry.working_shape), np.float32)
    for target, (values, where), kind in zip(image, voxels, task.normalizations, strict=True):
        channel = np.ascontiguousarray(to_canonical(values[geometry.crop_slices], geometry), np.float32)
        check_finite(channel[None], path=where)
        target[...] = to_spacing(channel, geometry, kind, task)
        normalize(target, kind)
    return Scan(image, geometry)


def _geometry(image: object, shape: tuple[int, ...], affine: np.ndarray, where: Path) -> Geometry:
    """Where voxels are: as a NIfTI image's header says, unless its affine was changed; else as the affine."""
    from nibabel.nifti1 import Nifti1Pair

    matrix = np.asarray(affine, float)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or np.linalg.det(matrix[:3, :3]) == 0:
        expected = "a 4 x 4 matrix that can be inverted"
        raise UserError(f"affine of {where}", expected=expected, found=str(matrix.tolist()))
    x, y, z = shape
    if isinstance(image, Nifti1Pair) and np.allclose(image.header.get_best_affine(), matrix):
        return read_geometry(where, image.header, (x, y, z))
    first, second, third = np.linalg.norm(matrix[:3, :3], axis=0).tolist()
    rows = tuple(tuple(row) for row in matrix.tolist())
    return Geometry(
        shape=(x, y, z),
        affine=rows,
        sform=rows,
        sform_code=2,  # aligned: what a reader may trust and nothing more
        qform=None,
        qform_code=0,
        zooms=(first, second, third),
        units=("mm", "sec"),
        working_shape=(x, y, z),
    )
