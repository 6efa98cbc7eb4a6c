"""DICOM series: where their voxels are and what they hold, whatever the order of the files."""

import sys
from pathlib import Path

import numpy as np
import pytest
from dicom_files import write_series
from highdicom import UID
from highdicom.legacy import LegacyConvertedEnhancedMRImage
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from scipy.spatial.transform import Rotation

from ossnet.data.imaging.dicom import find_series, holds_dicom, is_dicom, only_series, read_series
from ossnet.errors import UserError

SHAPE = (6, 5, 4)


def values(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-1000, 1000, SHAPE)


def placed(turn: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", turn, degrees=True).as_matrix() @ np.diag([0.7, -0.9, 2.5])
    affine[:3, 3] = (-30.5, 12, 101)
    return affine


@given(turn=st.tuples(*[st.floats(-180, 180)] * 3), hounsfield=st.booleans())
@settings(max_examples=15, deadline=None)
def test_every_voxel_is_where_the_slices_say(
    tmp_path_factory: pytest.TempPathFactory, turn: tuple[float, float, float], hounsfield: bool
) -> None:
    folder, wanted = tmp_path_factory.mktemp("series"), values()
    write_series(folder, wanted, placed(turn), hounsfield=hounsfield)
    voxels, affine = read_series(only_series(folder))
    # the reader may list the slices from either end
    indices = np.indices(SHAPE).reshape(3, -1)
    mm = affine @ np.vstack([indices, np.ones(indices.shape[1])])
    back = np.linalg.inv(placed(turn)) @ mm
    assert np.abs(back[:3] - np.rint(back[:3])).max() < 1e-3
    np.testing.assert_array_equal(voxels.ravel(), wanted[tuple(np.rint(back[:3]).astype(int))])


def test_series_of_a_folder_are_told_apart(tmp_path: Path) -> None:
    first = write_series(tmp_path / "s", values(), placed(), description="T1 post")
    second = write_series(tmp_path / "s", values(1), placed(), description="T2 FLAIR", number=2)
    write_series(tmp_path / "s", values()[:, :, :1], placed(), description="scout", number=3)
    (tmp_path / "s" / "notes.txt").write_text("not one of them")
    found = find_series(tmp_path)
    assert [(each.description, each.files) for each in found] == [
        ("T1 post", tuple(sorted(first))),
        ("T2 FLAIR", tuple(sorted(second))),
    ]
    assert only_series(second[2]) == found[1]
    with pytest.raises(
        UserError, match=r"expected one DICOM series.*found 2: T1 post, T2 FLAIR; give a file"
    ):
        only_series(tmp_path)


def test_one_file_with_all_slices_is_read_as_its_series(tmp_path: Path) -> None:
    write_series(tmp_path / "many", values(), placed(), description="many")
    expected, at = read_series(only_series(tmp_path / "many"))
    datasets = [dcmread(path) for path in only_series(tmp_path / "many").files]
    enhanced = LegacyConvertedEnhancedMRImage(
        datasets, UID(), series_number=2, sop_instance_uid=UID(), instance_number=1
    )
    (tmp_path / "one").mkdir()
    enhanced.save_as(tmp_path / "one" / "IM0")
    voxels, affine = read_series(only_series(tmp_path / "one"))
    np.testing.assert_array_equal(voxels, expected)
    np.testing.assert_allclose(affine, at, atol=1e-4)


def test_a_missing_slice_is_said(tmp_path: Path) -> None:
    dropped = write_series(tmp_path, values(), placed())[1]
    dropped.unlink()
    with pytest.raises(UserError, match="expected 3 files of parallel slices at equal distances"):
        read_series(only_series(tmp_path))


def test_slices_of_two_sizes_are_no_volume(tmp_path: Path) -> None:
    path = write_series(tmp_path, values(), placed())[0]
    dataset = dcmread(path)
    dataset.Rows, dataset.PixelData = 4, dataset.PixelData[: 4 * 6 * 2]
    dataset.save_as(path)
    with pytest.raises(UserError, match="parallel slices"):
        read_series(only_series(tmp_path))


@pytest.mark.parametrize("bytes_left", [140, 400, 900])
def test_a_file_that_was_cut_is_named(tmp_path: Path, bytes_left: int) -> None:
    path = write_series(tmp_path, values(), placed())[0]
    path.write_bytes(path.read_bytes()[:bytes_left])
    with pytest.raises(UserError, match=str(tmp_path)):
        read_series(only_series(path))


def test_what_is_dicom_is_seen_by_its_bytes(tmp_path: Path) -> None:
    series = write_series(tmp_path / "deep" / "series", values(), placed())
    assert all(map(is_dicom, series))
    assert holds_dicom(tmp_path)
    (tmp_path / "deep" / "a.nii.gz").write_bytes(b"")
    assert not holds_dicom(tmp_path)  # a folder of other scans, whatever lies deeper
    assert not holds_dicom(tmp_path / "nothing")


def test_without_the_package_its_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_series(tmp_path, values(), placed())
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(UserError, match=r"expected the package highdicom.*install ossnet\[dicom\]"):
        find_series(tmp_path)
