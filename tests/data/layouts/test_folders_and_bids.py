"""Folders by patient with files by modality, and BIDS with its derivatives."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from ossnet.data import Source, read_source


def save(path: Path, *values: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    label = np.zeros((4, 3, 2), np.uint8)
    label.flat[: len(values)] = values
    nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), path)
    return path


def found(source: Source) -> dict[str, list[str | None]]:
    root = source.root
    return {
        case.id: [str(file.relative_to(root)) if file else None for file in (*case.images, case.label)]
        for case in source.cases
    }


def test_a_folder_a_patient_with_files_by_modality(tmp_path: Path) -> None:
    patients = ("patient1", "patient19", "patient2")
    for patient in patients:
        for name in ("T1", "FLAIR", "adc"):
            save(tmp_path / patient / f"{name}.nii.gz", 7)
        save(tmp_path / patient / "Segmentation.nii.gz", 1, 2)
    save(tmp_path / "patient2" / "extra.nii.gz")
    save(tmp_path / "notes" / "scan.nii.gz")
    source = read_source(tmp_path)
    assert (source.layout, source.modalities) == ("folders", ("FLAIR", "T1w", "adc"))
    assert source.labels == {"label-1": 1, "label-2": 2}
    files = ["FLAIR.nii.gz", "T1.nii.gz", "adc.nii.gz", "Segmentation.nii.gz"]
    assert found(source) == {name: [f"{name}/{file}" for file in files] for name in patients}
    assert {case.group for case in source.cases} == set(patients)
    assert list(source.unmatched) == ["notes"]


def test_a_patient_without_a_modality_is_expected_to_have_it(tmp_path: Path) -> None:
    for patient in ("a", "b", "c"):
        save(tmp_path / patient / "ct.nii")
        save(tmp_path / patient / "mask.nii", 1)
    (tmp_path / "c" / "ct.nii").rename(tmp_path / "c" / "flair.nii")
    source = read_source(tmp_path)
    assert source.modalities == ("CT",)
    assert found(source)["c"] == ["c/ct.nii", "c/mask.nii"]
    assert not (tmp_path / "c" / "ct.nii").exists()


def test_declared_labels_count(tmp_path: Path) -> None:
    save(tmp_path / "a" / "T2.nii.gz")
    save(tmp_path / "a" / "seg.nii.gz", 1, 9)
    (tmp_path / "labels.json").write_text('{"plaque": 9}')
    assert read_source(tmp_path).labels == {"plaque": 9}


@pytest.mark.parametrize("sessions", [("",), ("ses-1", "ses-2")])
def test_bids_with_labels_in_derivatives(tmp_path: Path, sessions: tuple[str, ...]) -> None:
    expected = {}
    for subject in ("sub-01", "sub-02"):
        for session in sessions:
            case = "_".join(filter(None, (subject, session)))
            folder = Path(subject, session, "anat")
            for name in ("T1w", "FLAIR", "ce-gadolinium_T1w"):
                save(tmp_path / folder / f"{case}_{name}.nii.gz")
            save(tmp_path / folder / f"{case}_acq-long_FLAIR.nii.gz")  # the shorter name counts
            derived = Path("derivatives", "manual", folder)
            save(tmp_path / derived / f"{case}_label-lesion_mask.nii.gz", 1)
            save(tmp_path / derived / f"{case}_desc-brain_mask.nii.gz", 1)
            images = [folder / f"{case}_{name}.nii.gz" for name in ("FLAIR", "T1w", "ce-gadolinium_T1w")]
            expected[case] = list(map(str, [*images, derived / f"{case}_label-lesion_mask.nii.gz"]))
    source = read_source(tmp_path)
    assert (source.layout, source.modalities) == ("bids", ("FLAIR", "T1w", "T1gd"))
    assert source.labels == {"foreground": 1}
    assert found(source) == expected
    assert {case.group for case in source.cases} == {"sub-01", "sub-02"}


def test_derivatives_alone_with_segmentations_beside_images(tmp_path: Path) -> None:
    for name, values in (("desc-preproc_T2w", ()), ("dseg", (1, 2)), ("label-lesion_mask", (1,))):
        save(tmp_path / "sub-a" / "anat" / f"sub-a_{name}.nii.gz", *values)
    source = read_source(tmp_path)
    folder = "sub-a/anat/sub-a_"
    assert found(source) == {"sub-a": [f"{folder}desc-preproc_T2w.nii.gz", f"{folder}dseg.nii.gz"]}
    assert source.labels == {"label-1": 1, "label-2": 2}
