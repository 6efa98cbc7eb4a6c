"""What must hold before a case may be used; each failure is one line with file, expected, found and remedy.

Legend: X Y Z voxel axes in nibabel order.
"""

from itertools import product
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from ossnet.data.imaging.geometry import Geometry
from ossnet.errors import UserError

GRID_TOLERANCE = 0.1
"""In voxels, at the corner where two grids differ most: above rounding in headers, below what matters."""


def check_same_grid(found: Geometry, expected: Geometry, *, path: Path, other: str) -> None:
    """Refuse two files whose voxels are not at the same places.

    Raises:
        UserError: shapes differ, or the affines put a corner more than `GRID_TOLERANCE` voxels apart.
    """
    if found.shape != expected.shape:
        msg = (
            f"{path}: expected the shape {expected.shape} of {other}, found {found.shape}; "
            "resample it to that grid or remove the case"
        )
        raise UserError(msg)
    apart = corner_distance(found, expected)
    smallest = min(np.linalg.norm(np.array(expected.affine)[:3, :3], axis=0))
    if apart > GRID_TOLERANCE * smallest:
        msg = (
            f"{path}: expected the grid of {other}, found its affine up to {apart:.3g} mm away; "
            "resample it to that grid, or copy the header if only that is wrong"
        )
        raise UserError(msg)


def check_finite(channel: Float32[np.ndarray, "X Y Z"], *, path: Path) -> Float32[np.ndarray, "X Y Z"]:
    """The channel itself, unless it has NaN or infinite voxels.

    Raises:
        UserError: with their number.
    """
    strange = sum(slab.size - int(np.isfinite(slab).sum()) for slab in channel)
    if strange:
        raise UserError(not_finite(strange, path))
    return channel


def not_finite(count: int, path: Path) -> str:
    """What to tell of a file with so many NaN or infinite voxels."""
    found = f"{count} that are NaN or infinite"
    return f"{path}: expected finite voxels, found {found}; replace them or remove the case"


def corner_distance(found: Geometry, expected: Geometry) -> float:
    """Largest distance in mm between the places of the same corner voxel on two grids of one shape."""
    ends = [(0, size - 1) for size in expected.shape]
    corners = np.array([[*corner, 1] for corner in product(*ends)])
    apart = corners @ (np.array(found.affine) - np.array(expected.affine)).T
    return float(np.linalg.norm(apart[:, :3], axis=1).max())
