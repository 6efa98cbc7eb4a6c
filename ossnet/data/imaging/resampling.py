"""Resampling between two grids that cover the same box, edge to edge, a plane at a time to spare memory, and
from the working grid back to a file's own.

Images are interpolated linearly or by cubic splines; labels class by class, so that no value arises that is
none of theirs. The through-plane axis of a strongly anisotropic scan is taken from the nearest plane, as in
nnU-Net (Isensee et al. 2021, supplement): between planes far apart there is nothing to interpolate.

Legend: X Y Z voxel axes in nibabel order.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from ossnet.data.imaging.geometry import Geometry, Shape, from_canonical
from ossnet.data.labels.task import Interpolation

ANISOTROPIC = 3.0
"""Times the finest spacing from which an axis counts as through-plane (nnU-Net's threshold)."""
_ORDERS: dict[Interpolation, int] = {"linear": 1, "cubic": 3}
_TIE = 1e-6


def coarse_axis(spacing: Sequence[float]) -> int | None:
    """The through-plane axis of a strongly anisotropic grid: the only one so much coarser than the finest."""
    coarse = [axis for axis, size in enumerate(spacing) if size > ANISOTROPIC * min(spacing)]
    return coarse[0] if len(coarse) == 1 else None


def nearest(array: Shaped[np.ndarray, "X Y Z"], shape: Shape) -> Shaped[np.ndarray, "X Y Z"]:
    """The value of the voxel in whose cell each new center lies; the array itself where nothing changes."""
    for axis, (old, new) in enumerate(zip(array.shape, shape, strict=True)):
        if old != new:
            array = array.take(_nearest_indices(old, new), axis=axis)
    return array


def interpolate(
    array: Float32[np.ndarray, "X Y Z"],
    shape: Shape,
    *,
    kind: Interpolation = "linear",
    coarse: int | None = None,
) -> Float32[np.ndarray, "X Y Z"]:
    """Values at the new centers, constant beyond the outermost old ones, never outside the old ones' range.

    Args:
        coarse: an axis along which the nearest plane is taken.
    """
    array = nearest(array, _only(coarse, array.shape, shape))
    if array.shape == shape:
        return array
    lowest, highest = np.min(array), np.max(array)
    x, y, z = shape
    if array.shape[1:] != (y, z):
        planes, array = array, np.empty((array.shape[0], y, z), np.float32)
        for target, plane in zip(array, planes, strict=True):
            target[...] = _zoom(plane, (y, z), _ORDERS[kind])
    if array.shape[0] != x:
        planes, array = array, np.empty(shape, np.float32)
        for row in range(y):
            array[:, row] = _zoom(planes[:, row], (x, z), _ORDERS[kind])
    return np.clip(array, lowest, highest, out=array)


def interpolation_memory(old: Shape, new: Shape, *, coarse: int | None) -> int:
    """Bytes that `interpolate` takes at most in addition to the array it is given, the result included."""
    if old == new:
        return 0
    passes = {_only(coarse, old, new), (_only(coarse, old, new)[0], *new[1:]), new}
    return 4 * sum(prod(shape) for shape in passes - {old})


def interpolate_labels(
    labels: UInt8[np.ndarray, "X Y Z"], shape: Shape, *, coarse: int | None = None
) -> UInt8[np.ndarray, "X Y Z"]:
    """The class with the largest linearly interpolated weight at each new center; of equal ones the last.

    Args:
        coarse: an axis along which the nearest plane is taken.
    """
    labels = nearest(labels, _only(coarse, labels.shape, shape))
    if labels.shape == shape:
        return labels
    result = np.empty(shape, np.uint8)
    for position, target in zip(_positions(labels.shape[0], shape[0]), result, strict=True):
        before, weight = int(position), np.float32(position - int(position))
        first, second = labels[before], labels[min(before + 1, len(labels) - 1)]
        best = np.zeros(target.shape, np.float32)
        for index in np.flatnonzero(np.bincount(np.stack([first, second]).ravel())):
            own = _zoom((first == index) * (1 - weight) + (second == index) * weight, target.shape, 1)
            won = own >= best - _TIE
            target[won] = index
            best[won] = own[won]
    return result


def keep_zeros(image: Float32[np.ndarray, "X Y Z"], before: Float32[np.ndarray, "x y z"]) -> None:
    """Set to zero, in place, what was zero at the nearest voxel before: an edge leaves no halo outside."""
    x, y, z = (_nearest_indices(old, new) for old, new in zip(before.shape, image.shape, strict=True))
    for target, place in zip(image, x, strict=True):
        target[before[place][np.ix_(y, z)] == 0] = 0


def restore(labels: Shaped[np.ndarray, "X Y Z"], geometry: Geometry) -> Shaped[np.ndarray, "X Y Z"]:
    """Bring labels on the working grid back to the file's grid.

    They are taken from the nearest voxel where the grid was resampled, and are 0 where it was cut off.

    Raises:
        ValueError: the array does not have the working shape of the geometry.
    """
    if labels.shape != geometry.working_shape:
        msg = f"expected the working shape {geometry.working_shape}, found {labels.shape}"
        raise ValueError(msg)
    part = from_canonical(nearest(labels, geometry.canonical_shape), geometry)
    if geometry.box is None:
        return np.ascontiguousarray(part)
    whole = np.zeros(geometry.shape, labels.dtype)
    whole[geometry.crop_slices] = part
    return whole


def _zoom(plane: np.ndarray, shape: tuple[int, ...], order: int) -> np.ndarray:
    if plane.shape == shape:
        return plane
    from scipy.ndimage import zoom

    factors = [new / old for new, old in zip(shape, plane.shape, strict=True)]
    return zoom(plane, factors, order=order, mode="nearest", grid_mode=True)


def _positions(old: int, new: int) -> np.ndarray:
    """Positions of the new centers between the old ones, counted from the first old one."""
    return np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0, old - 1)


def _nearest_indices(old: int, new: int) -> np.ndarray:
    centers = (np.arange(new) + 0.5) * (old / new)
    return np.minimum(centers.astype(int), old - 1)


def _only(axis: int | None, old: Sequence[int], new: Shape) -> Shape:
    """The old shape with the new one's length along one axis."""
    x, y, z = (
        there if each == axis else here for each, (here, there) in enumerate(zip(old, new, strict=True))
    )
    return x, y, z
