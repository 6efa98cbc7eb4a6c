import gzip
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from ossnet.data import restore, write_nifti
from ossnet.data.imaging.nifti import read_channels, read_header, read_labels
from ossnet.errors import UserError

AXES = ["".join(codes) for pairs in permutations(("RL", "AP", "IS")) for codes in product(*pairs)]


def save(
    path: Path, array: np.ndarray, affine: np.ndarray | None = None, *, sform: int = 1, qform: int = 1
) -> Path:
    image = nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine)
    image.header.set_sform(image.affine, sform)
    image.header.set_qform(image.affine, qform)
    nibabel.save(image, path)
    return path


def read_back(path: Path) -> tuple[np.ndarray, np.ndarray, nibabel.Nifti1Header]:
    image = nibabel.load(path)
    return np.asarray(image.dataobj), image.affine, image.header


def assert_round_trip(path: Path, folder: Path) -> None:
    """Read to RAS, bring back, write: voxels, shape, affine, codes and units as before."""
    header = read_header(path)
    canonical = next(read_channels(header))
    assert canonical.shape == header.geometry.working_shape
    copy = folder / "copy.nii.gz"
    write_nifti(copy, restore(canonical, header.geometry), header.geometry)
    before, affine, header_before = read_back(path)
    after, affine_after, header_after = read_back(copy)
    np.testing.assert_allclose(after, before.reshape(after.shape), rtol=1e-6, atol=1e-4)
    np.testing.assert_allclose(affine_after, affine, atol=1e-4)
    for name in ("sform_code", "qform_code", "xyzt_units"):
        assert header_after[name] == header_before[name], name
    np.testing.assert_allclose(header_after.get_zooms(), header_before.get_zooms()[:3], rtol=1e-6)
    for codes, form in (("sform_code", "get_sform"), ("qform_code", "get_qform")):
        if header_before[codes] > 0:
            np.testing.assert_allclose(
                getattr(header_after, form)(), getattr(header_before, form)(), atol=1e-4
            )


def test_every_axis_order_is_tried():
    assert len(AXES) == 48


@settings(max_examples=48)
@given(
    codes=st.sampled_from(AXES),
    spacing=st.tuples(*[st.floats(0.3, 5)] * 3),
    tilt=st.floats(-0.3, 0.3),
    forms=st.sampled_from([(1, 1), (2, 0), (0, 1), (0, 3), (4, 2)]),
    seed=st.integers(0, 100),
)
def test_any_orientation_comes_back(tmp_path_factory, codes, spacing, tilt, forms, seed):
    folder = tmp_path_factory.mktemp("round")
    rng = np.random.default_rng(seed)
    turn = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = rng.uniform(-100, 100, 3)
    image = nibabel.Nifti1Image(rng.integers(0, 99, (3, 4, 5)).astype(np.int16), affine)
    image = image.as_reoriented(ornt_transform(io_orientation(affine), axcodes2ornt(codes)))
    path = save(
        folder / "image.nii.gz", np.asarray(image.dataobj), image.affine, sform=forms[0], qform=forms[1]
    )
    assert_round_trip(path, folder)
    geometry = read_header(path).geometry
    assert nibabel.aff2axcodes(geometry.working_affine) == ("R", "A", "S")
    assert geometry.shape == image.shape
    np.testing.assert_allclose(
        geometry.working_affine, nibabel.as_closest_canonical(nibabel.load(path)).affine
    )


@pytest.mark.parametrize(
    "name",
    [
        "headers/orient_RAS",
        "headers/orient_LPS",
        "headers/orient_ARS",
        "headers/orient_IPR",
        "headers/orient_PLI",
        "headers/orient_SAL",
        "headers/shear",
        "headers/FLAIR",
        "headers/lesion",
        "headers/low_res",
        "headers/minimal",
        "brats2021/BraTS2021_00006/BraTS2021_00006_seg",
        "msd_hippocampus/imagesTr/hippocampus_003",
        "ct_liver/organs",
        "ms_lesion/patient19/GOLD_STANDARD",
    ],
)
def test_real_files_come_back(shared, tmp_path, name):
    assert_round_trip(shared / "data" / f"{name}.nii.gz", tmp_path)


def test_one_brain_in_six_orders_reads_the_same(shared):
    names = [f"orient_{codes}" for codes in ("RAS", "LPS", "ARS", "IPR", "PLI", "SAL")]
    brains = [
        next(read_channels(read_header(shared / "data" / "headers" / f"{name}.nii.gz"))) for name in names
    ]
    for name, brain in zip(names[1:], brains[1:], strict=True):
        np.testing.assert_allclose(brain, brains[0], err_msg=name)


def test_scaling_in_the_header_is_honored(shared, tmp_path):
    for name in ("shear", "orient_RAS"):
        path = shared / "data" / "headers" / f"{name}.nii.gz"
        expected = nibabel.as_closest_canonical(nibabel.load(path)).get_fdata()
        file = read_header(path)
        assert file.slope != 1
        np.testing.assert_allclose(next(read_channels(file)), expected, rtol=1e-5, atol=1e-3)


def test_channels_of_a_4d_image_come_one_by_one(tmp_path):
    array = np.arange(2 * 3 * 4 * 3, dtype=np.int16).reshape(2, 3, 4, 3)
    file = read_header(save(tmp_path / "image.nii", array))
    assert file.channels == 3
    for number, channel in enumerate(read_channels(file)):
        np.testing.assert_array_equal(channel, array[..., number])


def test_a_fourth_axis_of_one_is_no_channel_axis(tmp_path):
    file = read_header(save(tmp_path / "image.nii", np.zeros((2, 3, 4, 1), np.int16)))
    assert (file.channels, file.geometry.shape) == (1, (2, 3, 4))


def test_labels_stored_as_floats_are_labels(tmp_path):
    values = np.array([[[0, 1, 2, 3]]], np.float32)
    np.testing.assert_array_equal(read_labels(read_header(save(tmp_path / "label.nii.gz", values))), values)


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_a_fraction_is_no_label(tmp_path, value):
    path = save(tmp_path / "label.nii.gz", np.array([[[0, value]]], np.float32))
    with pytest.raises(UserError, match=rf"{path.name}: expected whole label values, found {value}"):
        read_labels(read_header(path))


def damaged(path: Path, *, keep: float) -> Path:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    return path


@pytest.mark.parametrize("keep", [0.999, 0.9, 0.5])
def test_a_truncated_file_is_reported(tmp_path, keep):
    rng = np.random.default_rng(0)
    path = damaged(
        save(tmp_path / "image.nii.gz", rng.integers(0, 999, (20, 20, 20)).astype(np.int16)), keep=keep
    )
    with pytest.raises(
        UserError, match=r"image.nii.gz: expected 16000 bytes of voxels.*truncated or damaged"
    ):
        list(read_channels(read_header(path)))


def test_a_flipped_bit_is_reported(tmp_path):
    """Voxels that decompress but are not those that were written: only the checksum shows it."""
    path = save(tmp_path / "image.nii.gz", np.zeros((20, 20, 20), np.int16))
    content = gzip.decompress(path.read_bytes())
    packed = bytearray(gzip.compress(content, compresslevel=0))
    packed[len(packed) // 2] ^= 1
    path.write_bytes(packed)
    with pytest.raises(UserError, match="truncated or damaged"):
        list(read_channels(read_header(path)))


def test_an_uncompressed_file_that_ends_early_is_reported(tmp_path):
    path = damaged(save(tmp_path / "image.nii", np.ones((20, 20, 20), np.int16)), keep=0.7)
    with pytest.raises(UserError, match="expected 16000 bytes of voxels, found 1"):
        list(read_channels(read_header(path)))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "expected a NIfTI file, found 0 bytes"),
        (b"no image at all", "expected a NIfTI file, found 15 bytes"),
    ],
)
def test_what_is_no_nifti_is_reported(tmp_path, content, expected):
    path = tmp_path / "image.nii.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=expected):
        read_header(path)


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(UserError, match=r"nothing.nii.gz: expected a NIfTI file, found no file"):
        read_header(tmp_path / "nothing.nii.gz")


def test_an_affine_without_inverse_is_reported(tmp_path):
    path = save(tmp_path / "image.nii", np.zeros((3, 3, 3), np.int16))
    image = nibabel.load(path)
    flat = np.diag([1.0, 1.0, 0.0, 1.0])
    image.header["srow_z"] = flat[2]
    image.header["sform_code"] = 1
    nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header).to_filename(tmp_path / "flat.nii")
    with pytest.raises(UserError, match="affine that can be inverted"):
        read_header(tmp_path / "flat.nii")


@pytest.mark.parametrize(("name", "kind"), [("complex", "complex"), ("ct_perfusion", "color")])
def test_what_is_no_scalar_image_is_rejected(shared, name, kind):
    with pytest.raises(UserError, match=f"expected one real number a voxel, found {kind} voxels"):
        read_header(shared / "data" / "headers" / f"{name}.nii.gz")


def test_writing_leaves_nothing_but_the_file(tmp_path):
    path = save(tmp_path / "image.nii.gz", np.zeros((3, 4, 5), np.int16))
    geometry = read_header(path).geometry
    write_nifti(tmp_path / "out" / "seg.nii.gz", np.zeros((3, 4, 5), np.uint8), geometry)
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["seg.nii.gz"]
    with pytest.raises(ValueError, match="shape"):
        write_nifti(tmp_path / "other" / "seg.nii.gz", np.zeros((5, 4, 3), np.uint8), geometry)
    assert not (tmp_path / "other").exists()
