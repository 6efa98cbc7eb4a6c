"""Surfaces of masks as triangle meshes in the patient's millimeters.

Letters: V vertices, F faces, X Y Z voxel axes in nibabel's order.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from ossnet.inference.config import MeshFormat
from ossnet.output.atomic_write import atomic_write

if TYPE_CHECKING:
    from trimesh import Trimesh

_STEPS = (0.5, -0.53)
"""Taubin's two: the second swells what the first reduced, so that large shapes keep their form."""

_FARTHEST = 0.48
"""Voxels by which the surface may leave the middle between two voxels; at a half it would touch itself."""

_HALVINGS = 20
_NEWTON = 10
_EXACT = 1e-4
_TINY = float(np.finfo(float).tiny)


def mesh_of(
    mask: Bool[np.ndarray, "X Y Z"], affine: Float[np.ndarray, "4 4"], *, smoothing: int = 0
) -> "Trimesh":
    """The closed surface around a mask, its normals pointing outwards; empty for an empty mask.

    Marching cubes of Lewiner, with a rim of background, so that it is closed at the border too. The surface
    of each connected component passes between voxels inside and outside where it holds the component's
    volume, which halfway it does not: it cuts the corners off, five sixths of a single voxel.

    Args:
        affine: from voxel indices to mm in RAS+.
        smoothing: rounds of Taubin's smoothing, which removes the steps of the voxels; 10 is a good number.
            Every component is brought back to its volume after each.
    """
    from skimage.measure import marching_cubes
    from trimesh import Trimesh
    from trimesh.grouping import group_rows

    if not mask.any():
        return Trimesh()
    held = [np.flatnonzero(mask.any(axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    padded = np.pad(mask[tuple(slice(each[0], each[-1] + 1) for each in held)], 1).astype(np.float32)
    # Inside is the higher value, so that the gradient ascends inwards and the normals point out.
    corners, faces, _, _ = marching_cubes(padded, 0.5, gradient_direction="ascent")
    faces = faces[group_rows(np.sort(faces, axis=1), require_count=1)]  # not walls of two opposed triangles
    components = Components.of(faces, len(corners))
    voxels = _to_volume(corners, components, padded > 0) + [each[0] - 1 for each in held]
    places = voxels @ affine[:3, :3].T + affine[:3, 3]
    if np.linalg.det(affine[:3, :3]) < 0:
        faces = faces[:, ::-1]  # a mirror turns surfaces inside out
    mesh = Trimesh(places, faces, process=False)
    return _smooth(mesh, smoothing) if smoothing else mesh


@dataclass(frozen=True)
class Components:
    """The connected components of a mesh: closed surfaces that share no vertex.

    The volume of a hole is negative.
    """

    faces: Int[np.ndarray, "F 3"]
    of_vertices: Int[np.ndarray, " V"]
    count: int

    @classmethod
    def of(cls, faces: Int[np.ndarray, "F 3"], vertices: int) -> "Components":
        """The components of triangles over so many vertices."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        ends = faces[:, (0, 1)].ravel(), faces[:, (1, 2)].ravel()
        graph = coo_array((np.ones(2 * len(faces), bool), ends), shape=(vertices, vertices))
        count, of_vertices = connected_components(graph, directed=False)
        return cls(faces, of_vertices, count)

    def total(self, values: Float[np.ndarray, " V"]) -> Float[np.ndarray, " components"]:
        """Sums of a value over the vertices of each component."""
        return np.bincount(self.of_vertices, values, self.count)

    def growth(self, places: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
        """The gradient of the volume by each vertex: a third of the area around it, pointing outwards."""
        first, second, third = (places[self.faces[:, corner]] for corner in range(3))
        areas = np.cross(second - first, third - first) / 6
        return np.stack(
            [np.bincount(self.faces.ravel(), np.repeat(each, 3), len(places)) for each in areas.T], 1
        )

    def volumes(self, places: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, " components"]:
        """Volumes of the components with the vertices at these places."""
        near = places - places.mean(0)  # far from the origin digits would be lost
        return self.total((near * self.growth(near)).sum(1)) / 3


def _to_volume(
    corners: Float[np.ndarray, "V 3"], components: Components, inside: Bool[np.ndarray, "X Y Z"]
) -> Float[np.ndarray, "V 3"]:
    """Move vertices halfway between two voxels towards one of them, until each component has its volume.

    All vertices of a component move equally far.
    """
    middles = corners.astype(float)
    low, high = np.floor(middles).astype(int), np.ceil(middles).astype(int)
    between = (high - low).sum(1) == 1  # in ambiguous cubes there is a vertex inside
    sides = inside[tuple(low.T)].astype(int) - inside[tuple(high.T)]
    outwards = (high - low) * (sides * between)[:, None]
    # Each of these vertices is a voxel's face, whose flux along the first axis adds up to the voxels' volume.
    wanted = components.total(outwards[:, 0] * middles[:, 0])
    shares = np.linspace(-_FARTHEST, _FARTHEST, 4)
    volumes = [components.volumes(middles + share * outwards) for share in shares]
    excess = np.polyfit(shares, np.stack(volumes) - wanted, 3)  # a volume is a cubic in how far vertices move
    least, most = np.full((2, components.count), _FARTHEST) * [[-1], [1]]
    for _ in range(_HALVINGS):
        share = (least + most) / 2
        above = np.polyval(excess, share) > 0
        least, most = np.where(above, least, share), np.where(above, share, most)
    return middles + least[components.of_vertices, None] * outwards


def _smooth(mesh: "Trimesh", rounds: int) -> "Trimesh":
    from trimesh.smoothing import laplacian_calculation

    components = Components.of(mesh.faces, len(mesh.vertices))
    wanted, means, places = (
        components.volumes(mesh.vertices),
        laplacian_calculation(mesh),
        np.array(mesh.vertices),
    )
    for turn in range(rounds):
        places += _STEPS[turn % 2] * (means @ places - places)
        places = _restored(places, components, wanted)
    mesh.vertices = places
    return mesh


def _restored(
    places: Float[np.ndarray, "V 3"], components: Components, wanted: Float[np.ndarray, " components"]
) -> Float[np.ndarray, "V 3"]:
    """Inflate each component along its normals to its volume: thin ones get thicker, not longer."""
    for _ in range(_NEWTON):
        lacking = wanted - components.volumes(places)
        if (abs(lacking) < _EXACT * abs(wanted)).all():
            break
        growth = components.growth(places)
        speed = np.linalg.norm(growth, axis=1)
        normals = growth / np.maximum(speed, _TINY)[:, None]
        steps = lacking / np.maximum(components.total(speed), _TINY)
        places = places + steps[components.of_vertices, None] * normals
    return places


def write_mesh(
    path: Path, mesh: "Trimesh", kind: MeshFormat, *, color: tuple[int, int, int] | None = None
) -> None:
    """Write PLY, STL (both binary) or OBJ, atomically.

    Args:
        color: of all vertices, in bytes; STL has none.
    """
    from trimesh.visual import ColorVisuals

    if color is not None:
        mesh.visual = ColorVisuals(mesh, vertex_colors=np.tile((*color, 255), (len(mesh.vertices), 1)))
    content = mesh.export(file_type=kind)
    assert isinstance(content, bytes | str)
    atomic_write(path, content)
