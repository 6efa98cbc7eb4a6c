"""Meshes: closed, outward, of the mask's volume, and on the label in world space whatever the axis order."""

from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation, inv_ornt_aff

from ossnet.inference.mesh import mesh_of, write_mesh
from ossnet.inference.settings import MeshFormat

AFFINE = np.array([[0.9, 0.1, 0.0, -31.0], [-0.1, 1.1, 0.2, 12.0], [0.0, -0.2, 2.0, 55.0], [0, 0, 0, 1.0]])
ORDERS = [
    np.stack([order, signs], 1) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)
]


def ellipsoid(shape: tuple[int, int, int] = (34, 30, 26)) -> np.ndarray:
    axes = np.indices(shape) - np.reshape([15, 14, 13], (3, 1, 1, 1))
    return (axes[0] / 11) ** 2 + (axes[1] / 9) ** 2 + (axes[2] / 8) ** 2 < 1


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "".join(nibabel.orientations.ornt2axcodes(order)))
def test_lands_on_the_label_for_every_axis_order(order: np.ndarray) -> None:
    mask = ellipsoid()
    stored, affine = apply_orientation(mask, order), AFFINE @ inv_ornt_aff(order, mask.shape)
    mesh = mesh_of(stored, affine)
    assert mesh.is_watertight
    voxel = abs(np.linalg.det(AFFINE[:3, :3]))
    assert mesh.volume == pytest.approx(mask.sum() * voxel, rel=0.02)  # negative if it were inside out
    centre = AFFINE[:3, :3] @ np.argwhere(mask).mean(0) + AFFINE[:3, 3]
    assert np.allclose(mesh.center_mass, centre, atol=0.05)
    # Half a voxel from the surface's vertices in the file's own indices lies the change of the label.
    back = np.linalg.inv(affine)
    voxels = mesh.vertices @ back[:3, :3].T + back[:3, 3]
    low, high = np.floor(voxels + 1e-3).astype(int), np.ceil(voxels - 1e-3).astype(int)
    assert (stored[tuple(low.T)] != stored[tuple(high.T)]).all()


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(2, 40))
def test_small_lesions_keep_their_volume(seed: int, size: int) -> None:
    """Of 2 to 40 voxels, compact but irregular."""
    random = np.random.default_rng(seed)
    distance = np.linalg.norm(np.indices((11, 11, 11)) - 5.0, axis=0) + random.random((11, 11, 11))
    mask = np.zeros((11, 11, 11), bool)
    mask.reshape(-1)[np.argsort(distance, axis=None)[:size]] = True
    mesh = mesh_of(mask, AFFINE)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(size * np.linalg.det(AFFINE[:3, :3]), rel=0.02)


def test_a_single_voxel_keeps_its_volume() -> None:
    mask = np.zeros((3, 3, 3), bool)
    mask[1, 1, 1] = True
    assert mesh_of(mask, np.eye(4)).volume == pytest.approx(1, rel=0.01)


def test_there_are_48_orders() -> None:
    assert len(ORDERS) == 48


def test_closed_at_the_border() -> None:
    mask = np.ones((12, 12, 12), bool)
    mesh = mesh_of(mask, np.diag([2.0, 2.0, 2.0, 1.0]))
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(8 * mask.sum(), rel=0.02)
    assert np.allclose(mesh.bounds, [[-1, -1, -1], [23, 23, 23]], atol=0.2)


def test_smoothing_takes_the_steps_off_and_keeps_the_volume() -> None:
    plain, smooth = (mesh_of(ellipsoid(), np.eye(4), smoothing=rounds) for rounds in (0, 10))
    assert smooth.is_watertight
    assert smooth.volume == pytest.approx(plain.volume, rel=0.02)
    assert smooth.area < 0.97 * plain.area


@pytest.mark.parametrize("kind", ["ply", "stl", "obj"])
def test_files_come_back(kind: MeshFormat, tmp_path: Path) -> None:
    mesh = mesh_of(ellipsoid(), AFFINE)
    write_mesh(tmp_path / "meshes" / f"a.{kind}", mesh, kind)
    read = trimesh.load_mesh(tmp_path / "meshes" / f"a.{kind}")
    assert read.volume == pytest.approx(mesh.volume, rel=1e-4)
    assert read.is_watertight
    assert [path.name for path in (tmp_path / "meshes").iterdir()] == [f"a.{kind}"]


def test_nothing_gives_an_empty_mesh() -> None:
    assert len(mesh_of(np.zeros((4, 4, 4), bool), np.eye(4)).faces) == 0
