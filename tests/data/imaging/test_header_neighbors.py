"""More headers of the kinds that were reported: shears, negative sizes, scaled and odd labels."""

import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ossnet.data import Task, write_nifti
from ossnet.data.imaging.nifti import on_grid, read_channels, read_header, read_labels
from ossnet.errors import UserError

VOXELS = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
PIXDIM = 76


def save(path: Path, array: np.ndarray = VOXELS, affine: np.ndarray | None = None, **header: object) -> Path:
    image = nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine, dtype=array.dtype)
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def patch(path: Path, place: int, form: str, *values: float) -> Path:
    content = bytearray(path.read_bytes())
    struct.pack_into(f"<{form}", content, place, *values)
    path.write_bytes(content)
    return path


SHEARED = np.array([[1, 0.3, 0, 5], [0, 1, 0.2, -4], [0.1, 0, 2, 9], [0, 0, 0, 1]])


def test_a_sheared_sform_comes_back_as_it_was(tmp_path):
    image = nibabel.Nifti1Image(VOXELS, None)
    image.set_sform(SHEARED, 2)
    nibabel.save(image, tmp_path / "scan.nii.gz")
    geometry = read_header(tmp_path / "scan.nii.gz").geometry
    np.testing.assert_allclose(geometry.affine, SHEARED, rtol=1e-6)
    np.testing.assert_allclose(geometry.spacing, np.linalg.norm(SHEARED[:3, :3], axis=0), rtol=1e-6)
    write_nifti(tmp_path / "seg.nii.gz", np.ones((4, 5, 6), np.uint8), geometry)
    written = nibabel.load(tmp_path / "seg.nii.gz")
    np.testing.assert_allclose(written.affine, SHEARED, rtol=1e-6)
    label = read_header(tmp_path / "seg.nii.gz")
    assert on_grid(label, geometry, other="it").geometry == geometry


@pytest.mark.parametrize("sizes", [(-1, 1, 1), (1, -2, 1), (-1, -1, -3)])
def test_negative_voxel_sizes_do_not_mirror_a_placed_scan(tmp_path, sizes):
    """Some programs write the direction into pixdim too; the sform says it."""
    affine = np.diag([*np.abs(sizes), 1.0])
    path = patch(save(tmp_path / "scan.nii", affine=affine), PIXDIM + 4, "3f", *sizes)
    geometry = read_header(path).geometry
    np.testing.assert_allclose(geometry.affine, affine)
    assert min(geometry.zooms) > 0
    write_nifti(tmp_path / "seg.nii", np.ones((4, 5, 6), np.uint8), geometry)
    np.testing.assert_allclose(nibabel.load(tmp_path / "seg.nii").affine, affine)


@pytest.mark.parametrize("qfac", [1.0, -1.0, 0.0])
def test_the_third_axis_of_a_qform_runs_as_qfac_says(tmp_path, qfac):
    image = nibabel.Nifti1Image(VOXELS, None)
    image.set_qform(np.diag([1, 1, 2, 1.0]), 1)
    image.set_sform(None, 0)
    nibabel.save(image, tmp_path / "scan.nii")
    path = patch(tmp_path / "scan.nii", PIXDIM, "f", qfac)
    expected = nibabel.load(path).affine
    np.testing.assert_allclose(read_header(path).geometry.affine, expected)
    assert np.sign(expected[2, 2]) == (-1 if qfac < 0 else 1)


@pytest.mark.parametrize("code", [1, 2, 3, 4, 5])
def test_every_form_code_is_kept(tmp_path, code):
    image = nibabel.Nifti1Image(VOXELS, None)
    image.set_sform(SHEARED, code)
    nibabel.save(image, tmp_path / "scan.nii")
    geometry = read_header(tmp_path / "scan.nii").geometry
    write_nifti(tmp_path / "seg.nii", np.ones((4, 5, 6), np.uint8), geometry)
    assert int(nibabel.load(tmp_path / "seg.nii").header["sform_code"]) == code


TASK = Task(("MRI",), {"ignored": -1, "far": 70000, "last": 255})


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, np.float64])
def test_values_beyond_a_byte_are_read_from_any_type(tmp_path, dtype):
    values = np.array([[[0, -1, 70000, 255]]])
    path = save(tmp_path / "label.nii.gz", values.astype(dtype))
    labels = read_labels(read_header(path))
    np.testing.assert_array_equal(labels, values)
    np.testing.assert_array_equal(TASK.decode(TASK.encode(labels)), values)


@pytest.mark.parametrize(
    ("slope", "intercept", "stored", "values"),
    [
        (2.0, 0.0, np.array([0, 1, 2], np.int8), (0, 2, 4)),
        (1.0, -1.0, np.array([1, 2, 3], np.uint8), (0, 1, 2)),
        (0.00392156862745098, 0.0, np.array([0, 255, -255], np.int16), (0, 1, -1)),
        (1000.0, 0.0, np.array([0, 70, -1], np.int8), (0, 70000, -1000)),
    ],
)
def test_scaled_labels_are_what_they_mean(tmp_path, slope, intercept, stored, values):
    path = save(tmp_path / "label.nii", stored.reshape(1, 1, 3))
    patch(path, 112, "2f", slope, intercept)
    np.testing.assert_array_equal(read_labels(read_header(path)).ravel(), values)


@pytest.mark.parametrize(
    ("values", "slope", "expected"),
    [
        (np.array([0, 1.25, 2], np.float32), 0.0, "whole label values, found 1.25"),
        (np.array([0, 1, 3], np.int8), 0.5, "whole label values, found 0.5"),
        (np.array([0, np.inf, 3], np.float32), 0.0, "whole label values, found inf"),
        (np.array([0, 1e12, 3], np.float64), 0.0, "whole label values within 32 bits, found 1e"),
    ],
)
def test_what_is_no_label_is_said(tmp_path, values, slope, expected):
    path = save(tmp_path / "label.nii", values.reshape(1, 1, 3))
    if slope:
        patch(path, 112, "2f", slope, 0.0)
    with pytest.raises(UserError, match=expected):
        read_labels(read_header(path))


def test_a_slope_of_0_or_nan_scales_nothing(tmp_path):
    for slope in (0.0, float("nan")):
        path = patch(save(tmp_path / "scan.nii"), 112, "2f", slope, 0.0)
        np.testing.assert_array_equal(next(read_channels(read_header(path))), VOXELS)


@pytest.mark.parametrize("name", ["b" * 248 + ".nii.gz", "ä" * 124 + ".nii", "\udce4" * 3 + ".nii.gz"])
def test_names_as_long_as_a_file_system_takes(tmp_path, name):
    path = save(tmp_path / "a.nii")
    path = path.rename(tmp_path / name)
    np.testing.assert_array_equal(next(read_channels(read_header(path))), VOXELS)
