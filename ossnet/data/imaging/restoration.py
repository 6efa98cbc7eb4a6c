"""From the working grid back to a file's own.

Legend: X Y Z voxel axes in nibabel order.
"""

import numpy as np
from jaxtyping import Shaped

from ossnet.data.imaging.geometry import Geometry, from_canonical
from ossnet.data.imaging.resampling import nearest


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
    whole[geometry.kept] = part
    return whole
