"""DICOM in, label maps and DICOM segmentations out: the same decisions as on the same voxels in NIfTI."""

import json
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pytest
from dicom_files import LPS, write_series
from pydicom import dcmread
from pydicom.uid import generate_uid

from ossnet.data import Task
from ossnet.inference import Predictor
from ossnet.inference.batch.inputs import find_scans
from ossnet.inference.batch.runner import PredictionJob, predict_scans, predict_sequential
from ossnet.inference.config import ExportConfig

DESCRIPTIONS = {"T1w": "t1_mprage_sag", "FLAIR": "AX T2 FLAIR", "T1gd": "AX T1 GD", "T2w": "AX T2"}
MRI = Task(tuple(DESCRIPTIONS), {"tumor": 1}, normalization="zscore", spacing=(1.0, 1.0, 1.0))
CT = Task(("CT",), {"liver": 1}, normalization="ct", spacing=(1.0, 1.0, 1.0))
AFFINE = np.array([[0, 0, -3.0, 20], [-0.8, 0, 0, 30], [0, 0.8, 0, -5], [0, 0, 0, 1]])


def some_voxels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 500, (7, 6, 5))


def study(folder: Path, name: str, *, one_folder: bool) -> None:
    for number, (modality, description) in enumerate(DESCRIPTIONS.items()):
        series = folder if one_folder else folder / f"{number}_{modality}"
        uid = generate_uid(entropy_srcs=[name])
        write_series(series, some_voxels(number), AFFINE, description=description, study=uid, number=number)


@pytest.mark.parametrize("one_folder", [True, False])
def test_the_series_of_a_study_are_a_case(tmp_path: Path, one_folder: bool) -> None:
    for name in ("first", "second"):
        study(tmp_path / name, name, one_folder=one_folder)
    scans = find_scans([tmp_path], MRI)
    assert sorted(scan.case for scan in scans) == ["first", "second"]
    for scan in scans:
        found = [str(dcmread(path).SeriesDescription) for path in scan.images]
        assert found == [DESCRIPTIONS[name] for name in MRI.modalities]


def test_series_that_are_not_told_apart_are_an_error_with_a_remedy(tmp_path: Path) -> None:
    for number, name in enumerate(("AX T1", "SAG T1", "T1 GD", "FLAIR", "T2")):
        write_series(tmp_path / "patient" / name, some_voxels(), AFFINE, description=name, number=number)
    (scan,) = find_scans([tmp_path / "patient"], MRI)
    assert scan.error is not None
    assert "patient: expected one DICOM series for each of T1w, FLAIR, T1gd, T2w, found AX T1" in scan.error
    assert "folder that is called by its modality" in scan.error


def test_of_one_modality_each_series_is_a_case_however_it_is_given(tmp_path: Path) -> None:
    for number, name in enumerate(("arterial", "venous")):
        write_series(tmp_path / "ct", some_voxels(), AFFINE, description=name, number=number, hounsfield=True)
    files = write_series(tmp_path / "other", some_voxels(), AFFINE, hounsfield=True, number=2)
    expected = ["ct_arterial", "ct_venous", "other"]
    assert [scan.case for scan in find_scans([tmp_path], CT)] == expected
    every = [*sorted((tmp_path / "ct").iterdir()), *files]
    assert [scan.case for scan in find_scans(every, CT)] == expected


def test_a_series_is_segmented_as_its_voxels_in_nifti(phantom_checkpoint: Path, tmp_path: Path) -> None:
    task = Predictor.from_checkpoint(phantom_checkpoint, device="cpu").task
    given, written = tmp_path / "patient", tmp_path / "nifti"
    written.mkdir()
    for number, name in enumerate(task.modalities):
        voxels = np.random.default_rng(number).integers(0, 900, (26, 24, 20))
        write_series(given / name, voxels, AFFINE, number=number)
        image = nibabel.Nifti1Image(voxels.astype(np.int16), AFFINE)
        nibabel.save(image, written / f"patient_{name}.nii.gz")
    job = PredictionJob((phantom_checkpoint,), tmp_path / "out", export=ExportConfig(dicom_seg=True))
    predictor = job.predictor()
    (result,) = predict_scans(
        job, find_scans([given], task), lambda scans: predict_sequential(predictor, job, scans)
    )
    assert result.error is None
    expected = predictor(sorted_by(task, written))
    labels = nibabel.load(tmp_path / "out" / "patient_seg.nii.gz")
    there = nibabel.as_closest_canonical(labels)
    wanted = nibabel.as_closest_canonical(nibabel.Nifti1Image(expected.labels, expected.affine))
    np.testing.assert_allclose(there.affine, wanted.affine, atol=1e-4)
    np.testing.assert_array_equal(there.get_fdata(), wanted.get_fdata())
    assert wanted.get_fdata().max() > 0

    found = highdicom.seg.segread(tmp_path / "out" / "patient_seg.dcm")
    assert [each.SegmentLabel for each in found.SegmentSequence] == list(task.class_names)
    source = dcmread(next((given / task.modalities[0]).iterdir()))
    assert (found.PatientID, found.StudyInstanceUID) == (source.PatientID, source.StudyInstanceUID)
    assert found.FrameOfReferenceUID == source.FrameOfReferenceUID
    total = 0
    for number, name in enumerate(task.class_names, start=1):
        volume = found.get_volume(segment_numbers=[number], combine_segments=True)
        total += int((volume.array > 0).sum())
        places = np.argwhere(volume.array > 0)
        mm = (LPS @ volume.affine @ np.c_[places, np.ones(len(places))].T).T
        at = np.rint((np.linalg.inv(expected.affine) @ mm.T).T[:, :3]).astype(int)
        assert expected.mask(name)[tuple(at.T)].all()
    assert total == sum(int(expected.mask(name).sum()) for name in task.class_names)

    (again,) = predict_scans(job, find_scans([given], task), lambda _: [])
    assert again.cached


def test_a_dicom_segmentation_of_another_format_is_an_error_of_that_scan(
    phantom_checkpoint: Path, tmp_path: Path
) -> None:
    job = PredictionJob((phantom_checkpoint,), tmp_path / "out", export=ExportConfig(dicom_seg=True))
    predictor = job.predictor()
    voxels = np.zeros((12, 12, 12, len(predictor.task.modalities)), np.int16)
    voxels[3:9, 3:9, 3:9] = 100
    nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), tmp_path / "scan.nii.gz")
    scans = find_scans([tmp_path / "scan.nii.gz"], predictor.task)
    (result,) = predict_sequential(predictor, job, scans)
    assert result.error is not None
    assert "expected a DICOM series, for --dicom-seg" in result.error
    assert not list((tmp_path / "out").glob("*.nii.gz"))
    assert json.dumps(result.error)


def sorted_by(task: Task, folder: Path) -> list[Path]:
    return [folder / f"patient_{name}.nii.gz" for name in task.modalities]
