"""A patch by a plain loop over its voxels."""

import numpy as np


def slow_patch(volume: np.ndarray, point: np.ndarray, before: int, edge: int) -> np.ndarray:
    """Zero beyond the volume."""
    patch = np.zeros((len(volume), edge, edge, edge), np.float32)
    for cell in np.ndindex(edge, edge, edge):
        voxel = point - before + np.array(cell)
        if (voxel >= 0).all() and (voxel < volume.shape[1:]).all():
            patch[(slice(None), *cell)] = volume[(slice(None), *voxel)]
    return patch
