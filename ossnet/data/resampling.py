"""Resampling between two grids that cover the same box, edge to edge.

Legend: X Y Z voxel axes in nibabel order.
"""

import numpy as np
from jaxtyping import Float32, Shaped

from ossnet.data.geometry import Shape


def nearest(array: Shaped[np.ndarray, "X Y Z"], shape: Shape) -> Shaped[np.ndarray, "X Y Z"]:
    """The value of the voxel in whose cell each new centre lies; the array itself where nothing changes."""
    for axis, (old, new) in enumerate(zip(array.shape, shape, strict=True)):
        if old != new:
            centres = (np.arange(new) + 0.5) * (old / new)
            array = array.take(np.minimum(centres.astype(int), old - 1), axis=axis)
    return array


def linear(array: Float32[np.ndarray, "X Y Z"], shape: Shape) -> Float32[np.ndarray, "X Y Z"]:
    """Trilinear values at the new centres, constant beyond the outermost old ones."""
    if array.shape == shape:
        return array
    from scipy.ndimage import zoom

    factors = [new / old for new, old in zip(shape, array.shape, strict=True)]
    return zoom(array, factors, order=1, mode="nearest", grid_mode=True)
