"""What a person points at, and the cases found there."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ossnet.data import Task
from ossnet.data.imaging.nifti import read_header
from ossnet.errors import UserError
from ossnet.inference.batch.inputs import find_scans

BRATS = Task(modalities=("FLAIR", "T1w", "T1gd", "T2w"), labels={"necrosis": 1, "edema": 2, "enhancing": 4})
ONE = Task(modalities=("MRI",), labels={"anterior": 1})


def write(path: Path, shape: tuple[int, ...] = (3, 4, 5)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.int16), np.eye(4)), path)
    return path


def names(images: tuple[Path, ...]) -> list[str]:
    return [path.name.removesuffix(".nii.gz") for path in images]


def test_single_modality_files_are_a_case_each(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{name}.nii.gz") for name in ("a", "b_t1", "c_0000")]
    scans = find_scans(files, ONE)
    assert [scan.case for scan in scans] == ["a", "b_t1", "c_0000"]
    assert [scan.images for scan in scans] == [(path,) for path in files]


@pytest.mark.parametrize(
    "suffixes",
    [
        ("_flair", "_t1", "_t1ce", "_t2"),
        ("-t2f", "-t1n", "-t1c", "-t2w"),
        ("_0000", "_0001", "_0002", "_0003"),
        ("_FLAIR", "_T1w", "_T1gd", "_T2w"),
    ],
)
def test_modalities_are_recognized_by_their_names_not_their_order(
    suffixes: tuple[str, ...], tmp_path: Path
) -> None:
    files = [write(tmp_path / f"case-01{suffix}.nii.gz") for suffix in suffixes]
    for order in (files, files[::-1]):
        (scan,) = find_scans(order, BRATS)
        assert scan.case == "case-01"
        assert scan.images == tuple(files)


def test_several_cases_and_a_4d_file_at_once(tmp_path: Path) -> None:
    files = [write(tmp_path / f"{case}_{m}.nii.gz") for m in ("t1", "flair", "t2", "t1ce") for case in "ab"]
    files.append(write(tmp_path / "whole.nii.gz", (3, 4, 5, 4)))
    scans = {scan.case: scan for scan in find_scans(files, BRATS)}
    assert names(scans["a"].images) == ["a_flair", "a_t1", "a_t1ce", "a_t2"]
    assert names(scans["b"].images) == ["b_flair", "b_t1", "b_t1ce", "b_t2"]
    assert names(scans["whole"].images) == ["whole"]


@pytest.mark.parametrize(
    "naming", [("_flair", "_t1", "_t1ce", "_t2", "_seg"), ("-t2f", "-t1n", "-t1c", "-t2w", "-seg")]
)
def test_folders_of_cases(naming: tuple[str, ...], tmp_path: Path) -> None:
    for case in ("BraTS-GLI-00001-000", "BraTS-GLI-00002-000"):
        for suffix in naming:
            write(tmp_path / case / f"{case}{suffix}.nii.gz")
    both = find_scans([tmp_path], BRATS)
    single = find_scans([tmp_path / "BraTS-GLI-00001-000"], BRATS)
    assert [scan.case for scan in both] == ["BraTS-GLI-00001-000", "BraTS-GLI-00002-000"]
    assert single == both[:1]
    assert names(single[0].images) == [f"BraTS-GLI-00001-000{suffix}" for suffix in naming[:4]]
    swapped = Task(modalities=("T2w", "FLAIR", "T1w", "T1gd"), labels={"edema": 2})
    (scan,) = find_scans([tmp_path / "BraTS-GLI-00001-000"], swapped)
    assert names(scan.images) == [f"BraTS-GLI-00001-000{naming[place]}" for place in (3, 0, 1, 2)]


def test_folder_without_a_layout(tmp_path: Path) -> None:
    write(tmp_path / "x.nii.gz")
    write(tmp_path / "y.nii")
    write(tmp_path / "x_seg.nii.gz")
    (tmp_path / "notes.txt").write_text("")
    assert [scan.case for scan in find_scans([tmp_path], ONE)] == ["x", "y"]


@pytest.mark.parametrize("inside", [None, "notes.txt", "x.nii.gz"])
def test_a_folder_called_as_a_scan_is_reported(tmp_path: Path, inside: str | None) -> None:
    """As some programs unpack: what is in it is not looked for, and not passed over."""
    write(tmp_path / "a.nii.gz")
    (tmp_path / "x.nii.gz").mkdir()
    if inside == "x.nii.gz":
        write(tmp_path / "x.nii.gz" / inside)
    elif inside:
        (tmp_path / "x.nii.gz" / inside).write_text("")
    first, second = find_scans([tmp_path], ONE)
    assert (first.case, first.error) == ("a", None)
    if inside == "x.nii.gz":
        assert "found some in a folder below; give that folder" in str(second.error)
    else:
        assert second.images == (tmp_path / "x.nii.gz",)
        with pytest.raises(UserError, match=r"x\.nii\.gz: expected a NIfTI file, found a folder"):
            read_header(second.images[0])


def test_msd_folder(tmp_path: Path) -> None:
    write(tmp_path / "imagesTr" / "a.nii.gz", (3, 4, 5, 4))
    description = {
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {"0": "background", "1": "edema"},
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    (scan,) = find_scans([tmp_path], BRATS)
    assert scan.case == "a"
    assert scan.error is None
    description["modality"] = {"0": "T1w", "1": "FLAIR", "2": "t1gd", "3": "T2w"}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    (scan,) = find_scans([tmp_path], BRATS)
    assert scan.error is not None
    assert "reorder" in scan.error


def test_errors_are_reported_case_by_case(tmp_path: Path) -> None:
    files = [write(tmp_path / f"a_{m}.nii.gz") for m in ("t1", "flair", "t2")]
    broken = tmp_path / "b_t1.nii.gz"
    broken.write_bytes(b"nothing")
    stray = write(tmp_path / "c.nii.gz")
    scans = {scan.case: scan for scan in find_scans([*files, broken, stray], BRATS)}
    assert scans["a"].error is not None
    assert "T1gd" in scans["a"].error
    assert scans["b_t1"].error is not None
    assert str(broken) in scans["b_t1"].error
    assert scans["c"].images == (stray,)  # its channels are checked when it is read


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        find_scans([tmp_path / "gone.nii.gz"], ONE)
    with pytest.raises(UserError, match="expected NIfTI files"):
        find_scans([tmp_path], ONE)


def test_cases_of_one_name_are_called_by_their_folders(tmp_path: Path) -> None:
    files = [write(tmp_path / folder / "scan.nii.gz") for folder in "ab"]
    files += [write(tmp_path / "c" / name) for name in ("other.nii", "other.nii.gz")]
    scans = find_scans(files, ONE)
    assert [scan.case for scan in scans] == ["a_scan", "b_scan", "other.nii", "other.nii.gz"]
    assert [scan.images[0] for scan in scans] == files
    with pytest.raises(UserError, match="expected each input once, found it twice"):
        find_scans([files[0], tmp_path / "b" / ".." / "a" / "scan.nii.gz"], ONE)
