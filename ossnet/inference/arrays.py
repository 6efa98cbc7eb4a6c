"""A scan in memory brought to the working grid, as `ossnet.data.preprocess` does with files.

Letters: C channels, X Y Z voxel axes in nibabel's order.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Real

from ossnet.data import Geometry, Scan, Task
from ossnet.data.imaging.geometry import to_canonical
from ossnet.data.imaging.nifti import check_finite
from ossnet.data.imaging.normalization import foreground, normalize
from ossnet.data.imaging.preprocessing import crop_geometry, to_spacing
from ossnet.errors import UserError

_IN_MEMORY = Path("array")


def scan_from_array(
    array: Real[np.ndarray, "X Y Z *C"], affine: Float[np.ndarray, "4 4"], task: Task
) -> Scan:
    """A scan from voxels as nibabel gives them, channels last where there are several.

    Raises:
        UserError: other axes, channels or an affine that cannot be, or values that are not finite.
    """
    voxels = array[..., None] if array.ndim == 3 else array
    if voxels.ndim != 4 or voxels.shape[3] != len(task.modalities):
        channels = f"{len(task.modalities)} channels ({', '.join(task.modalities)})"
        expected = f"three axes and {channels} on a fourth"
        raise UserError(_IN_MEMORY, expected=expected, found=f"shape {array.shape}")
    geometry, volumes = _geometry(voxels.shape[:3], affine), list(np.moveaxis(voxels, -1, 0))
    if task.crop is not None:
        kinds = zip(volumes, task.normalizations, strict=True)
        foregrounds = ((0, foreground(values, kind)) for values, kind in kinds)
        geometry = crop_geometry(foregrounds, geometry, task.crop)
    geometry = geometry.resampled_to(task.spacing)
    image = np.empty((voxels.shape[3], *geometry.working_shape), np.float32)
    for target, values, kind in zip(image, volumes, task.normalizations, strict=True):
        channel = np.ascontiguousarray(to_canonical(values[geometry.crop_slices], geometry), np.float32)
        check_finite(channel[None], path=_IN_MEMORY)
        target[...] = to_spacing(channel, geometry, kind, task)
        normalize(target, kind)
    return Scan(image, geometry)


def _geometry(shape: tuple[int, ...], affine: np.ndarray) -> Geometry:
    matrix = np.asarray(affine, float)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or np.linalg.det(matrix[:3, :3]) == 0:
        where, expected = "affine", "a 4 x 4 matrix that can be inverted"
        raise UserError(where, expected=expected, found=str(matrix.tolist()))
    x, y, z = shape
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
