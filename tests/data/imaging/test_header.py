"""Units, forms, offsets and axis orders: what headers say in more ways than one."""

import struct
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from ossnet.data import Task, preprocess, write_nifti
from ossnet.data.imaging.nifti import on_grid, read_channels, read_header, read_labels, read_slabs
from ossnet.data.imaging.preprocessing import preprocess_label
from ossnet.errors import UserError

AXES = ["".join(codes) for pairs in permutations(("RL", "AP", "IS")) for codes in product(*pairs)]
VOXELS = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
MM = np.array([[0.9, 0.1, 0, -20], [-0.1, 0.9, 0, 11], [0, 0, 2.5, 7], [0, 0, 0, 1]])
QFORM_CODE, SFORM_CODE, QUATERNION, SROW, PIXDIM, OFFSET = 252, 254, 256, 280, 76, 108


def save(path: Path, affine: np.ndarray = MM, array: np.ndarray = VOXELS, *, unit: str = "mm") -> Path:
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units(unit, "sec")
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    nibabel.save(image, path)
    return path


def patch(path: Path, **places: tuple[int, str, tuple]) -> Path:
    content = bytearray(path.read_bytes())
    for place, form, values in places.values():
        struct.pack_into(f"<{form}", content, place, *values)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("unit", "factor"), [("mm", 1), ("micron", 1000), ("meter", 0.001), ("unknown", 1)], ids=str
)
def test_lengths_are_in_mm_and_results_in_the_unit_of_the_scan(tmp_path, unit, factor):
    own = np.diag([factor] * 3 + [1]) @ MM
    path = save(tmp_path / "scan.nii.gz", own, unit=unit)
    geometry = read_header(path).geometry
    np.testing.assert_allclose(geometry.affine, MM, rtol=1e-5)
    np.testing.assert_allclose(geometry.sform, MM, rtol=1e-5)
    np.testing.assert_allclose(geometry.qform, MM, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(geometry.zooms, np.linalg.norm(MM[:3, :3], axis=0), rtol=1e-5)
    np.testing.assert_allclose(geometry.spacing, np.linalg.norm(MM[:3, :3], axis=0), rtol=1e-5)
    write_nifti(tmp_path / "seg.nii.gz", np.ones((4, 5, 6), np.uint8), geometry)
    written, given_header = nibabel.load(tmp_path / "seg.nii.gz"), nibabel.load(path).header
    np.testing.assert_allclose(written.affine, own, rtol=1e-5)
    np.testing.assert_allclose(written.get_qform(), own, rtol=1e-5, atol=1e-5 * factor)
    np.testing.assert_allclose(written.header.get_zooms(), given_header.get_zooms(), rtol=1e-6)
    assert written.header.get_xyzt_units() == given_header.get_xyzt_units() == (unit, "sec")


def test_a_number_that_is_no_unit_is_taken_for_mm(tmp_path):
    path = patch(save(tmp_path / "scan.nii"), unit=(123, "B", (7,)))
    np.testing.assert_allclose(read_header(path).geometry.affine, MM, rtol=1e-5)


def test_spacing_is_resampled_in_mm(tmp_path):
    path = save(tmp_path / "scan.nii.gz", np.diag([500, 500, 1000, 1]), unit="micron")
    task = Task(("MRI",), {"organ": 1}, spacing=(1.0, 1.0, 1.0))
    assert preprocess([path], task).geometry.working_shape == (2, 2, 6)


@pytest.mark.parametrize("images", [1, 2])
def test_a_label_in_other_units_lies_on_the_same_grid(tmp_path, images):
    image = save(tmp_path / "image.nii.gz")
    label = save(tmp_path / "label.nii.gz", np.diag([1000] * 3 + [1]) @ MM, unit="micron")
    files = [read_header(image), read_header(label)]
    assert on_grid(files[images - 1], files[0].geometry, other="it").geometry == files[0].geometry


def turned(path: Path, source: Path, codes: str, array: np.ndarray | None = None) -> Path:
    """The voxels of another file, or others on its grid, stored along other axes at the same places."""
    image = nibabel.load(source)
    voxels = np.asarray(image.dataobj) if array is None else array
    ornt = ornt_transform(io_orientation(image.affine), axcodes2ornt(codes))
    nibabel.save(nibabel.Nifti1Image(voxels, image.affine).as_reoriented(ornt), path)
    return path


@settings(max_examples=48)
@given(
    codes=st.tuples(st.sampled_from(AXES), st.sampled_from(AXES)),
    angle=st.sampled_from([0.0, 0.3, np.pi / 4, -np.pi / 4]),
    compressed=st.booleans(),
)
def test_labels_and_modalities_along_other_axes_are_taken_losslessly(
    tmp_path_factory, codes, angle, compressed
):
    folder = tmp_path_factory.mktemp("axes")
    turn = nibabel.eulerangles.euler2mat(angle) @ np.diag([0.8, 0.8, 2.0])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn, (-3, 5, 8)
    nibabel.save(nibabel.Nifti1Image(VOXELS, affine), folder / "first.nii")
    image = turned(folder / "image.nii", folder / "first.nii", codes[0])
    other = turned(folder / f"other.nii{'.gz' * compressed}", folder / "first.nii", codes[1])
    first = read_header(image)
    second = on_grid(read_header(other), first.geometry, other="the image")
    wanted = np.asarray(nibabel.load(image).dataobj)
    slabs = np.concatenate([slab for _, _, slab in read_slabs(second)], axis=2)
    np.testing.assert_array_equal(slabs, wanted)
    np.testing.assert_array_equal(next(read_channels(second)), next(read_channels(first)))
    np.testing.assert_array_equal(read_labels(second), read_labels(first))
    again = on_grid(second, first.geometry, other="the image")  # as when a header of a survey is used
    np.testing.assert_array_equal(read_labels(again), read_labels(first))


def test_a_cropped_image_has_its_label_along_other_axes(tmp_path):
    voxels = np.zeros((4, 5, 6), np.int16)
    voxels[1:3, 2:4, 3:] = np.arange(1, 13).reshape(2, 2, 3)
    image = save(tmp_path / "image.nii", array=voxels)
    label = turned(tmp_path / "label.nii.gz", image, "SLA", (voxels > 4).astype(np.uint8))
    task = Task(("MRI",), {"organ": 1}, crop=0.0)
    scan = preprocess([image], task)
    found = preprocess_label(label, task, like=scan.geometry)
    assert found.shape == scan.image.shape[1:] == (2, 2, 3)
    np.testing.assert_array_equal(found, np.arange(1, 13).reshape(2, 2, 3) > 4)


def test_a_mirrored_grid_is_another_grid(tmp_path):
    image = save(tmp_path / "image.nii")
    label = save(tmp_path / "label.nii", np.diag([-1, 1, 1, 1]) @ MM)
    with pytest.raises(UserError, match=r"label.nii: expected the grid of its image, found its affine up to"):
        on_grid(read_header(label), read_header(image).geometry, other="its image")


def test_copying_the_header_is_not_advised_where_it_would_mirror(tmp_path):
    image = save(tmp_path / "image.nii", np.diag([1, 1, 1, 1.0]))
    affine = np.diag([-1, 1, 1, 1.0])
    affine[0, 3] = 9
    label = save(tmp_path / "label.nii", affine)
    with pytest.raises(UserError, match=r"6 mm away; resample it to that grid$"):
        on_grid(read_header(label), read_header(image).geometry, other="its image")


@pytest.mark.parametrize("quaternion", [(0.9, 0.9, 0.9), (np.nan, 0, 0), (9, 0, 0)])
def test_a_broken_qform_beside_a_good_sform_does_not_matter(tmp_path, quaternion):
    path = patch(save(tmp_path / "scan.nii"), quaternion=(QUATERNION, "3f", quaternion))
    geometry = read_header(path).geometry
    np.testing.assert_allclose(geometry.affine, MM, rtol=1e-5)
    assert (geometry.qform, geometry.sform_code, geometry.qform_code) == (None, 1, 1)
    write_nifti(tmp_path / "seg.nii", np.ones((4, 5, 6), np.uint8), geometry)
    np.testing.assert_allclose(nibabel.load(tmp_path / "seg.nii").affine, MM, rtol=1e-5)


@pytest.mark.parametrize("row", [(np.nan,) * 12, (0.0,) * 12, (np.inf, *(1.0,) * 11)])
def test_a_broken_sform_that_is_not_in_use_does_not_matter(tmp_path, row):
    path = patch(save(tmp_path / "scan.nii"), code=(SFORM_CODE, "h", (0,)), sform=(SROW, "12f", row))
    np.testing.assert_allclose(read_header(path).geometry.affine, MM, rtol=1e-5, atol=1e-5)


def test_the_form_in_use_must_be_good(tmp_path):
    path = patch(
        save(tmp_path / "scan.nii"),
        code=(SFORM_CODE, "h", (0,)),
        quaternion=(QUATERNION, "3f", (0.9, 0.9, 0.9)),
    )
    with pytest.raises(UserError, match="expected a rotation as qform"):
        read_header(path)


@pytest.mark.parametrize("sizes", [(np.nan, 1, 1), (0, 0, 0), (np.inf, 1, 1)])
def test_voxel_sizes_that_are_none_are_those_of_the_sform(tmp_path, sizes):
    path = patch(save(tmp_path / "scan.nii"), code=(QFORM_CODE, "h", (0,)), pixdim=(PIXDIM + 4, "3f", sizes))
    geometry = read_header(path).geometry
    np.testing.assert_allclose(geometry.affine, MM, rtol=1e-5)
    assert np.isfinite(geometry.zooms).all()
    assert min(geometry.zooms) > 0


def test_both_codes_0_are_no_placement(tmp_path):
    path = patch(save(tmp_path / "scan.nii"), codes=(QFORM_CODE, "2h", (0, 0)))
    geometry = read_header(path).geometry
    assert not geometry.placed
    np.testing.assert_allclose(geometry.affine, nibabel.load(path).affine, rtol=1e-6)
    assert read_header(save(tmp_path / "placed.nii")).geometry.placed


@pytest.mark.parametrize("order", ["<", ">"])
def test_an_offset_of_0_is_behind_the_header(tmp_path, order):
    path = tmp_path / "scan.nii"
    image = nibabel.Nifti1Image(VOXELS, MM, nibabel.Nifti1Header(endianness=order))
    nibabel.save(image, path)
    content = bytearray(path.read_bytes())
    struct.pack_into(f"{order}f", content, OFFSET, 0.0)
    path.write_bytes(content)
    file = read_header(path)
    assert file.offset == 352
    np.testing.assert_array_equal(np.concatenate([slab for _, _, slab in read_slabs(file)], axis=2), VOXELS)


def test_an_offset_of_0_in_the_second_version(tmp_path):
    path = tmp_path / "scan.nii"
    nibabel.save(nibabel.Nifti2Image(VOXELS, MM), path)
    file = read_header(patch(path, offset=(168, "q", (0,))))
    assert file.offset == 544
    np.testing.assert_array_equal(np.concatenate([slab for _, _, slab in read_slabs(file)], axis=2), VOXELS)


@pytest.mark.parametrize("offset", [100.0, -352.0, 3e9, float("nan"), float("inf")])
def test_an_offset_that_cannot_be_is_reported(tmp_path, offset):
    path = patch(save(tmp_path / "scan.nii"), offset=(OFFSET, "f", (offset,)))
    with pytest.raises(UserError, match=r"scan.nii: expected .*; (correct|export|copy)"):
        read_header(path)
