"""Surfaces of masks as triangle meshes in the patient's millimetres.

Letters: V vertices, F faces, X Y Z voxel axes in nibabel's order.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from ossnet.files import write_aside
from ossnet.inference.settings import MeshFormat

if TYPE_CHECKING:
    from trimesh import Trimesh

_PASS_BAND = (0.5, 0.53)
"""Taubin's two steps: the second swells what the first shrank, so that the volume stays."""

_FARTHEST = 0.48
"""Voxels by which the surface may leave the middle between two voxels; at a half it would touch itself."""


def mesh_of(
    mask: Bool[np.ndarray, "X Y Z"], affine: Float[np.ndarray, "4 4"], *, smoothing: int = 0
) -> "Trimesh":
    """The closed surface around a mask, its normals pointing outwards; empty for an empty mask.

    Marching cubes of Lewiner, with a rim of background, so that it is closed at the border too. The surface
    passes between voxels inside and outside where it holds the mask's volume, which halfway it does not: it
    cuts the corners off, five sixths of a single voxel.

    Args:
        affine: from voxel indices to mm in RAS+.
        smoothing: rounds of Taubin's smoothing, which takes the steps off; 10 is a good number.
    """
    from skimage.measure import marching_cubes
    from trimesh import Trimesh
    from trimesh.smoothing import filter_taubin

    if not mask.any():
        return Trimesh()
    held = [np.flatnonzero(mask.any(axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    padded = np.pad(mask[tuple(slice(each[0], each[-1] + 1) for each in held)], 1).astype(np.float32)
    # Inside is the higher value, so that the gradient ascends inwards and the normals point out.
    corners, faces, _, _ = marching_cubes(padded, 0.5, gradient_direction="ascent")
    voxels = _to_volume(corners, faces, padded > 0) + [each[0] - 1 for each in held]
    places = voxels @ affine[:3, :3].T + affine[:3, 3]
    if np.linalg.det(affine[:3, :3]) < 0:
        faces = faces[:, ::-1]  # a mirror turns surfaces inside out
    mesh = Trimesh(places, faces, process=False)
    return filter_taubin(mesh, *_PASS_BAND, iterations=smoothing) if smoothing else mesh


def _to_volume(
    corners: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"], inside: Bool[np.ndarray, "X Y Z"]
) -> Float[np.ndarray, "V 3"]:
    """Vertices halfway between two voxels moved towards one of them, all as far, to the right volume."""
    from scipy.optimize import brentq
    from trimesh.triangles import mass_properties

    middles = corners.astype(float)
    low, high = np.floor(middles).astype(int), np.ceil(middles).astype(int)
    between = (high - low).sum(1) == 1  # in ambiguous cubes there is a vertex inside
    sides = inside[tuple(low.T)].astype(int) - inside[tuple(high.T)]
    outwards = (high - low) * (sides * between)[:, None]

    def excess(share: float) -> float:
        triangles = (middles + share * outwards)[faces]
        return float(mass_properties(triangles, skip_inertia=True)["volume"] - np.count_nonzero(inside))

    if excess(-_FARTHEST) >= 0 or excess(_FARTHEST) <= 0:
        return middles
    return middles + brentq(excess, -_FARTHEST, _FARTHEST, xtol=1e-4) * outwards


def write_mesh(path: Path, mesh: "Trimesh", kind: MeshFormat) -> None:
    """Write PLY, STL (both binary) or OBJ; aside first, then renamed."""
    content = mesh.export(file_type=kind)
    assert isinstance(content, bytes | str)
    write_aside(path, content)
