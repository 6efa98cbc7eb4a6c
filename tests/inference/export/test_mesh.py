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

from ossnet.inference.config import MeshFormat
from ossnet.inference.export.mesh import mesh_of, write_mesh
from ossnet.output.palette import rgb

AFFINE = np.array([[0.9, 0.1, 0.0, -31.0], [-0.1, 1.1, 0.2, 12.0], [0.0, -0.2, 2.0, 55.0], [0, 0, 0, 1.0]])
ORDERS = [
    np.stack([order, signs], 1) for order in permutations(range(3)) for signs in product((1, -1), repeat=3)
]


def name_of(order: np.ndarray) -> str:
    return "".join(nibabel.orientations.ornt2axcodes(order))


def ellipsoid(shape: tuple[int, int, int] = (34, 30, 26)) -> np.ndarray:
    axes = np.indices(shape) - np.reshape([15, 14, 13], (3, 1, 1, 1))
    return (axes[0] / 11) ** 2 + (axes[1] / 9) ** 2 + (axes[2] / 8) ** 2 < 1


@pytest.mark.parametrize("order", ORDERS, ids=name_of)
def test_lands_on_the_label_for_every_axis_order(order: np.ndarray) -> None:
    mask = ellipsoid()
    stored, affine = apply_orientation(mask, order), AFFINE @ inv_ornt_aff(order, mask.shape)
    mesh = mesh_of(stored, affine)
    assert mesh.is_watertight
    voxel = abs(np.linalg.det(AFFINE[:3, :3]))
    assert mesh.volume == pytest.approx(mask.sum() * voxel, rel=0.02)  # negative if it were inside out
    center = AFFINE[:3, :3] @ np.argwhere(mask).mean(0) + AFFINE[:3, 3]
    assert np.allclose(mesh.center_mass, center, atol=0.05)
    # Half a voxel from the surface's vertices in the file's own indices lies the change of the label.
    back = np.linalg.inv(affine)
    voxels = mesh.vertices @ back[:3, :3].T + back[:3, 3]
    low, high = np.floor(voxels + 1e-3).astype(int), np.ceil(voxels - 1e-3).astype(int)
    assert (stored[tuple(low.T)] != stored[tuple(high.T)]).all()


@pytest.mark.parametrize("order", ORDERS, ids=name_of)
def test_smoothed_it_is_the_same_for_every_axis_order(order: np.ndarray) -> None:
    mask = ellipsoid()[1:30, 2:, 2:24]
    mask[27, 25, 19:21] = True
    stored, affine = apply_orientation(mask, order), AFFINE @ inv_ornt_aff(order, mask.shape)
    mesh = mesh_of(stored, affine, smoothing=10)
    assert mesh.is_watertight
    lesion, whole = sorted(mesh.split(only_watertight=False), key=lambda piece: piece.volume)
    voxel = np.linalg.det(AFFINE[:3, :3])
    assert lesion.volume == pytest.approx(2 * voxel, rel=0.005)
    assert whole.volume == pytest.approx((mask.sum() - 2) * voxel, rel=0.005)
    assert np.allclose(lesion.center_mass, AFFINE[:3, :3] @ [27, 25, 19.5] + AFFINE[:3, 3], atol=0.05)


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([0, 1, 10, 30]))
def test_small_lesions_keep_their_volume(seed: int, size: int, smoothing: int) -> None:
    """Of 1 to 40 voxels, compact but irregular."""
    random = np.random.default_rng(seed)
    distance = np.linalg.norm(np.indices((11, 11, 11)) - 5.0, axis=0) + random.random((11, 11, 11))
    mask = np.zeros((11, 11, 11), bool)
    mask.reshape(-1)[np.argsort(distance, axis=None)[:size]] = True
    mesh = mesh_of(mask, AFFINE, smoothing=smoothing)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(size * np.linalg.det(AFFINE[:3, :3]), rel=0.005)


def thin(name: str) -> np.ndarray:
    mask = np.zeros((20, 20, 20), bool)
    if name == "vessel":
        turn = np.linspace(0, 4 * np.pi, 400)
        places = 10 + 7 * np.cos(turn), 10 + 7 * np.sin(turn), 2 + 1.25 * turn
        mask[tuple(each.round().astype(int) for each in places)] = True
    elif name == "skin":
        distance = np.linalg.norm(np.indices(mask.shape) - 9.5, axis=0)
        mask = (distance < 8) & (distance > 6.5)
    else:
        mask[3:17, 3 : 17 if name == "sheet" else 4, 9] = True
    return mask


@pytest.mark.parametrize("smoothing", [0, 10, 30])
@pytest.mark.parametrize("name", ["rod", "sheet", "vessel", "skin"])
def test_thin_shapes_keep_their_volume_and_place(name: str, smoothing: int) -> None:
    """One voxel thin; smoothing moves no vertex by a voxel, so that a rod gets neither short nor long."""
    mask = thin(name)
    plain, mesh = (mesh_of(mask, AFFINE, smoothing=rounds) for rounds in (0, smoothing))
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(mask.sum() * np.linalg.det(AFFINE[:3, :3]), rel=0.005)
    assert np.linalg.norm(mesh.vertices - plain.vertices, axis=1).max() < 1.3  # mm, the voxel's mean edge


@pytest.mark.parametrize("smoothing", [0, 10])
def test_every_piece_keeps_its_own_volume(smoothing: int) -> None:
    """A single voxel does not pay for the large one next to it, nor does a hole for what is around it."""
    mask = np.zeros((40, 40, 40), bool)
    mask[:34, :30, :26] |= ellipsoid()
    mask[15, 14, 13] = False
    mask[37, 37, 37] = mask[37, 4, 4:7] = True
    pieces = mesh_of(mask, AFFINE, smoothing=smoothing).split(only_watertight=False)
    volumes = sorted(piece.volume / np.linalg.det(AFFINE[:3, :3]) for piece in pieces)
    assert volumes == pytest.approx([-1, 1, 3, ellipsoid().sum()], rel=0.005)


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.sampled_from([0.3, 0.5, 0.7]))
def test_closed_whatever_the_mask(seed: int, share: float) -> None:
    """Of noise, in which marching cubes leaves walls of two opposed triangles."""
    mask = np.random.default_rng(seed).random((14, 13, 12)) < share
    mesh = mesh_of(mask, AFFINE, smoothing=10)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(mask.sum() * np.linalg.det(AFFINE[:3, :3]), rel=0.001)


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
    assert smooth.volume == pytest.approx(plain.volume, rel=0.001)
    assert smooth.area < 0.97 * plain.area


@pytest.mark.parametrize("kind", ["ply", "stl", "obj"])
def test_files_come_back(kind: MeshFormat, tmp_path: Path) -> None:
    mesh = mesh_of(ellipsoid(), AFFINE)
    write_mesh(tmp_path / "meshes" / f"a.{kind}", mesh, kind)
    read = trimesh.load_mesh(tmp_path / "meshes" / f"a.{kind}")
    assert read.volume == pytest.approx(mesh.volume, rel=1e-4)
    assert read.is_watertight
    assert [path.name for path in (tmp_path / "meshes").iterdir()] == [f"a.{kind}"]


def test_a_mesh_has_the_color_of_its_class(tmp_path: Path) -> None:
    mesh = mesh_of(ellipsoid(), AFFINE)
    write_mesh(tmp_path / "a.ply", mesh, "ply", color=rgb(1))
    read = trimesh.load_mesh(tmp_path / "a.ply")
    assert set(map(tuple, read.visual.vertex_colors.tolist())) == {(*rgb(1), 255)}


def test_nothing_gives_an_empty_mesh() -> None:
    assert len(mesh_of(np.zeros((4, 4, 4), bool), np.eye(4)).faces) == 0
