from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.data import Geometry, Task, preprocess, preprocess_label, read_source, restore
from ossnet.data.imaging.nifti import read_header
from ossnet.data.imaging.preprocessing import on_working_grid
from ossnet.data.imaging.resampling import interpolate, nearest
from ossnet.errors import UserError

ONE = Task(modalities=("T1w",), labels={"lesion": 1})
TWO = Task(modalities=("T1w", "T2w"), labels={"lesion": 1})


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def shifted(millimeters: float) -> np.ndarray:
    affine = np.eye(4)
    affine[0, 3] = millimeters
    return affine


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(1, 100, shape).astype(np.float32)


def test_four_files_and_one_4d_file_give_the_same_scan(tmp_path):
    array = noise(5, 6, 7, 2)
    together = save(tmp_path / "both.nii.gz", array)
    apart = [save(tmp_path / f"{number}.nii.gz", array[..., number]) for number in range(2)]
    np.testing.assert_array_equal(preprocess([together], TWO).image, preprocess(apart, TWO).image)


def test_the_image_is_normalized_channel_by_channel(tmp_path):
    scan = preprocess([save(tmp_path / "both.nii.gz", noise(5, 6, 7, 2) * [1, 50])], TWO)
    assert scan.image.dtype == np.float32
    np.testing.assert_allclose(scan.image.mean(axis=(1, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(scan.image.std(axis=(1, 2, 3), ddof=1), 1, atol=1e-4)


def test_files_of_a_case_must_share_their_grid(tmp_path):
    first = save(tmp_path / "t1.nii.gz", noise(5, 6, 7))
    wide = save(tmp_path / "wide.nii.gz", noise(6, 6, 7))
    moved = save(tmp_path / "moved.nii.gz", noise(5, 6, 7), shifted(0.5))
    rounded = save(tmp_path / "rounded.nii.gz", noise(5, 6, 7), shifted(0.05))
    with pytest.raises(
        UserError, match=r"wide.nii.gz: expected the shape \(5, 6, 7\) of t1.nii.gz, found \(6, 6, 7\)"
    ):
        preprocess([first, wide], TWO)
    with pytest.raises(UserError, match=r"moved.nii.gz: expected the grid of t1.nii.gz, .*up to 0.5 mm away"):
        preprocess([first, moved], TWO)
    preprocess([first, rounded], TWO)


def test_the_number_of_modalities_must_fit(tmp_path):
    with pytest.raises(UserError, match="expected 2 modalities, found 1"):
        preprocess([save(tmp_path / "t1.nii.gz", noise(5, 6, 7))], TWO)
    with pytest.raises(UserError, match="expected 1 modalities, found 3"):
        preprocess([save(tmp_path / "t1.nii.gz", noise(5, 6, 7, 3))], ONE)


def test_voxels_must_be_finite(tmp_path):
    array = noise(5, 6, 7)
    array[1, 2, 3], array[4, 5, 6] = np.nan, np.inf
    with pytest.raises(UserError, match="expected finite voxels, found 2 that are NaN or infinite"):
        preprocess([save(tmp_path / "t1.nii.gz", array)], ONE)


def test_a_label_must_lie_on_its_image_s_grid(tmp_path):
    image = read_header(save(tmp_path / "t1.nii.gz", noise(5, 6, 7)))
    label = save(tmp_path / "label.nii.gz", np.ones((5, 6, 7), np.uint8), shifted(2))
    with pytest.raises(UserError, match=r"label.nii.gz: expected the grid of its image, .* 2 mm away"):
        preprocess_label(label, ONE, like=image.geometry)


def test_a_strange_label_value_names_the_file(tmp_path):
    label = save(tmp_path / "label.nii.gz", np.full((5, 6, 7), 255, np.uint8))
    with pytest.raises(UserError, match=r"label.nii.gz: expected label values \[0, 1\], found 255 too"):
        preprocess_label(label, ONE)


@given(
    old=st.tuples(*[st.integers(1, 12)] * 3),
    new=st.tuples(*[st.integers(1, 12)] * 3),
)
def test_resampling_keeps_the_box_and_the_range(old, new):
    array = np.random.default_rng(1).uniform(0, 1, old).astype(np.float32)
    labels = (array > 0.5).astype(np.uint8)
    assert nearest(labels, new).shape == interpolate(array, new).shape == new
    assert interpolate(array, new).min() >= array.min() - 1e-6
    assert interpolate(array, new).max() <= array.max() + 1e-6
    constant = np.full(old, 3, np.float32)
    np.testing.assert_allclose(interpolate(constant, new), 3)
    # Both sample the same positions: a ramp sampled linearly is within half a voxel of its nearest sample.
    ramp = np.broadcast_to(np.arange(old[0], dtype=np.float32)[:, None, None], old)
    assert np.abs(interpolate(ramp, new) - nearest(ramp, new)).max() <= 0.5 + 1e-5


@given(old=st.tuples(*[st.integers(1, 9)] * 3), factor=st.integers(1, 3))
def test_labels_survive_a_finer_grid(old, factor):
    labels = np.random.default_rng(2).integers(0, 4, old).astype(np.uint8)
    x, y, z = (size * factor for size in old)
    np.testing.assert_array_equal(nearest(nearest(labels, (x, y, z)), old), labels)


def test_a_spacing_is_reached_and_undone(tmp_path):
    affine = np.array([[0, 0, 2.0, -7], [-1.5, 0, 0, 30], [0, 3.0, 0, 2], [0, 0, 0, 1]])  # stored as P S R
    labels = np.zeros((8, 6, 10), np.uint8)
    labels[2:6, 1:5, 3:8] = 1
    image = save(tmp_path / "t1.nii.gz", noise(8, 6, 10), affine)
    label = save(tmp_path / "label.nii.gz", labels, affine)
    task = Task(modalities=("T1w",), labels={"lesion": 1}, spacing=(1.0, 1.0, 1.0))
    scan = preprocess([image], task)
    classes = preprocess_label(label, task, like=scan.geometry)
    assert scan.image.shape == (1, 20, 12, 18)
    assert classes.shape == (20, 12, 18)
    assert scan.geometry.spacing == pytest.approx((1, 1, 1))
    np.testing.assert_array_equal(restore(classes, scan.geometry), labels)
    # The box stays: the outer corner of the first voxel is where it was, half a voxel from the first center.
    first = scan.geometry.working_affine @ [-0.5, -0.5, -0.5, 1]
    np.testing.assert_allclose(first, affine @ [7.5, -0.5, -0.5, 1])


def test_restoring_wants_the_working_shape(tmp_path):
    geometry = read_header(save(tmp_path / "t1.nii.gz", noise(5, 6, 7))).geometry
    with pytest.raises(ValueError, match="expected the working shape"):
        restore(np.zeros((7, 6, 5), np.uint8), geometry)


def test_a_real_brats_case(shared):
    source = read_source(shared / "data" / "brats2021")
    (case,) = source.cases
    task = Task(source.modalities, source.labels)
    scan = preprocess(case.images, task)
    classes = preprocess_label(case.label, task, like=scan.geometry)
    assert scan.image.shape == (4, 240, 240, 155)
    assert np.unique(classes).tolist() == [0, 1, 2, 3]
    stored = np.asarray(nibabel.load(case.label).dataobj)
    np.testing.assert_array_equal(restore(task.decode(classes), scan.geometry), stored)
    brain = scan.image != 0
    for channel, inside in zip(scan.image, brain, strict=True):
        assert channel[inside].mean() == pytest.approx(0, abs=1e-3)


def test_a_real_4d_case(shared):
    source = read_source(shared / "data" / "msd_brain_slab")
    (case,) = source.cases
    scan = preprocess(case.images, Task(source.modalities, source.labels, normalization="zscore"))
    assert scan.image.shape == (4, 147, 141, 54)
    np.testing.assert_allclose(scan.image.std(axis=(1, 2, 3), ddof=1, dtype=float), 1, rtol=1e-4)


CT = Task(modalities=("CT",), labels={"lesion": 1}, normalization="ct")


def head(*shape: int) -> np.ndarray:
    """Zeros with noise inside."""
    array = np.zeros(shape, np.float32)
    array[3:-2, 2:-4, 1:-1] = noise(shape[0] - 5, shape[1] - 6, shape[2] - 2)
    return array


@pytest.mark.parametrize(
    ("margin", "shape", "box"),
    [
        (0.0, (5, 6, 6), ((3, 8), (2, 8), (1, 7))),
        (1.0, (7, 8, 8), ((2, 9), (1, 9), (0, 8))),
        (1.1, (9, 10, 8), ((1, 10), (0, 10), (0, 8))),
        (99.0, (10, 12, 8), ((0, 10), (0, 12), (0, 8))),
    ],
)
def test_a_scan_is_cut_to_its_foreground(tmp_path, margin, shape, box):
    image = save(tmp_path / "t1.nii.gz", head(10, 12, 8), np.diag([-1.0, 1.0, 1.0, 1.0]))
    scan = preprocess([image], replace(ONE, crop=margin))
    assert scan.image.shape == (1, *shape)
    assert scan.geometry.box == box
    assert scan.geometry.canonical_shape == shape
    whole = restore(scan.image[0], scan.geometry)
    np.testing.assert_array_equal(whole, restore(*_uncut(image)))
    # The outer corner of what is kept is where it is in the file, whose first axis points left.
    corner = scan.geometry.working_affine @ [-0.5, -0.5, -0.5, 1]
    np.testing.assert_allclose(corner[:3], [-(box[0][1] - 0.5), box[1][0] - 0.5, box[2][0] - 0.5])


def _uncut(image: Path) -> tuple[np.ndarray, Geometry]:
    scan = preprocess([image], ONE)
    return scan.image[0], scan.geometry


def test_the_box_holds_the_foreground_of_every_modality(tmp_path):
    first, second = np.zeros((8, 8, 8), np.float32), np.zeros((8, 8, 8), np.float32)
    first[2, 3, 4], second[5, 3, 1] = 7, 9
    both = save(tmp_path / "both.nii.gz", np.stack([first, second], axis=-1))
    assert preprocess([both], replace(TWO, crop=0.0)).geometry.box == ((2, 6), (3, 4), (1, 5))
    apart = [save(tmp_path / f"{number}.nii.gz", each) for number, each in enumerate((first, second))]
    assert preprocess(apart, replace(TWO, crop=0.0)).geometry.box == ((2, 6), (3, 4), (1, 5))


def test_a_ct_is_cut_to_what_its_window_shows(tmp_path):
    array = np.full((9, 9, 9), -1000, np.float32)
    array[2:6, 3:7, 1:8] = 0
    scan = preprocess([save(tmp_path / "ct.nii.gz", array)], replace(CT, crop=0.0))
    assert scan.geometry.box == ((2, 6), (3, 7), (1, 8))


def test_an_empty_scan_is_not_cut(tmp_path):
    image = save(tmp_path / "t1.nii.gz", np.zeros((4, 5, 6), np.float32))
    assert preprocess([image], replace(ONE, crop=0.0)).image.shape == (1, 4, 5, 6)


def test_cut_and_resampled_labels_come_back(tmp_path):
    affine = np.array([[0, 0, 2.0, -7], [-1.5, 0, 0, 30], [0, 3.0, 0, 2], [0, 0, 0, 1]])
    image = save(tmp_path / "t1.nii.gz", head(10, 12, 8), affine)
    labels = np.zeros((10, 12, 8), np.uint8)
    labels[4:7, 3:7, 2:6] = 1
    label = save(tmp_path / "label.nii.gz", labels, affine)
    task = replace(ONE, crop=0.0, spacing=(1.0, 0.75, 1.5))
    scan = preprocess([image], task)
    assert scan.image.shape == (1, 12, 10, 12)
    classes = preprocess_label(label, task, like=scan.geometry)
    assert classes.shape == scan.image.shape[1:]
    restored = restore(classes, scan.geometry)
    assert (restored != labels).mean() < 0.02
    assert not restored[:3].any()


def test_labels_that_would_be_cut_off_are_reported(tmp_path):
    image = read_header(save(tmp_path / "t1.nii.gz", head(10, 12, 8)))
    labels = np.zeros((10, 12, 8), np.uint8)
    labels[4, 4, 4] = labels[0, 0, 0] = 1
    label = save(tmp_path / "label.nii.gz", labels)
    (file,) = on_working_grid([image], replace(ONE, crop=0.0))
    with pytest.raises(
        UserError, match=r"label.nii.gz: .* found 1 voxels beyond the margin; give a larger --crop"
    ):
        preprocess_label(label, replace(ONE, crop=0.0), like=file.geometry)


def test_modalities_may_be_normalized_each_in_its_way(tmp_path):
    array = np.stack([head(10, 12, 8), head(10, 12, 8) * 100 - 1000], axis=-1)
    task = Task(("T1w", "CT"), {"lesion": 1}, normalization=("zscore-foreground", "ct"))
    path = save(tmp_path / "both.nii.gz", array)
    scan = preprocess([path], task)
    for channel, kind in zip(range(2), ("zscore-foreground", "ct"), strict=True):
        alone = save(tmp_path / f"{kind}.nii.gz", array[..., channel])
        expected = preprocess([alone], replace(ONE, normalization=kind))
        np.testing.assert_array_equal(scan.image[channel], expected.image[0])


def test_the_background_stays_zero_through_splines(tmp_path):
    image = save(tmp_path / "t1.nii.gz", head(10, 12, 8))
    scan = preprocess([image], replace(ONE, spacing=(0.6, 0.7, 0.8), interpolation="cubic"))
    outside = nearest(head(10, 12, 8), scan.geometry.working_shape) == 0
    assert outside.any()
    assert not scan.image[0][outside].any()
    assert scan.image[0][~outside].mean() == pytest.approx(0, abs=1e-4)


def test_thick_slices_are_not_interpolated_between(tmp_path):
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    image = save(tmp_path / "t1.nii.gz", noise(6, 6, 4), affine)
    label = save(tmp_path / "label.nii.gz", (noise(6, 6, 4) > 50).astype(np.uint8), affine)
    task = replace(ONE, spacing=(1.0, 1.0, 1.0), interpolation="cubic", normalization="zscore")
    scan = preprocess([image], task)
    for planes in (scan.image[0], preprocess_label(label, task, like=scan.geometry)):
        np.testing.assert_array_equal(planes, planes[:, :, ::5].repeat(5, axis=2))
