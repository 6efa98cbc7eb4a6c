import json
from pathlib import Path

import pytest

from ossnet.data import read_source
from ossnet.errors import UserError


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def msd(root: Path, cases: list[str], **changes: object) -> Path:
    description = {
        "modality": {"0": "FLAIR", "1": "t1gd"},
        "labels": {"2": "Non-enhancing Tumor", "0": "background", "1": "edema"},
        "training": [
            {"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in cases
        ],
    }
    for case in cases:
        touch(root / "imagesTr" / f"{case}.nii.gz")
        touch(root / "labelsTr" / f"{case}.nii.gz")
    (root / "dataset.json").write_text(json.dumps(description | changes))
    return root


def brats(root: Path, case: str, suffixes: list[str], end: str = ".nii.gz") -> Path:
    for suffix in suffixes:
        touch(root / case / f"{case}{suffix}{end}")
    return root


OLD = ["_flair", "_t1", "_t1ce", "_t2", "_seg"]
NEW = ["-t2f", "-t1n", "-t1c", "-t2w", "-seg"]


def test_msd_names_everything(tmp_path):
    source = read_source(msd(tmp_path, ["b", "a"]))
    assert source.layout == "msd"
    assert source.modalities == ("FLAIR", "T1gd")
    assert source.labels == {"edema": 1, "non-enhancing-tumor": 2}
    assert list(source.labels) == ["edema", "non-enhancing-tumor"]
    assert [case.id for case in source.cases] == ["a", "b"]
    assert source.cases[0].images == (tmp_path / "imagesTr" / "a.nii.gz",)
    assert source.cases[0].label == tmp_path / "labelsTr" / "a.nii.gz"
    assert not source.unmatched


def test_msd_pairs_as_listed_and_reports_what_is_not_listed(tmp_path):
    root = msd(tmp_path, ["a", "b"])
    touch(root / "imagesTr" / "c.nii.gz")
    touch(root / "imagesTr" / "._a.nii.gz")  # what a Mac leaves in an archive
    source = read_source(root)
    assert [case.id for case in source.cases] == ["a", "b"]
    assert list(source.unmatched) == ["c"]
    assert "c.nii.gz: expected the file to be listed in dataset.json" in str(source.unmatched["c"])


def test_msd_entry_without_label_and_listed_twice(tmp_path):
    entries = [{"image": "imagesTr/a.nii.gz"}, {"image": "imagesTr/b.nii.gz", "label": "l"}]
    source = read_source(msd(tmp_path, [], training=[*entries, entries[1]]))
    assert source.cases[0].label is None
    assert len(source.cases) == 2
    assert "expected case b once under training, found it twice" in str(source.unmatched["b (again)"])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"modality": {}}, "modality: expected a table such as"),
        ({"labels": ["background"]}, "labels: expected a table such as"),
        ({"labels": {"x": "background"}}, "labels: expected a table such as"),
        ({"training": {"image": 1}}, "training: expected a list of"),
        ({"training": []}, "expected cases in the msd layout, found none"),
    ],
)
def test_a_broken_description_names_the_field(tmp_path, changes, expected):
    with pytest.raises(UserError, match=expected):
        read_source(msd(tmp_path, ["a"], **changes))


def test_a_description_that_is_no_json(tmp_path):
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(UserError, match=r"dataset.json: expected JSON, found Expecting property name"):
        read_source(tmp_path)


@pytest.mark.parametrize(
    ("suffixes", "enhancing", "end"), [(OLD, 4, ".nii.gz"), (NEW, 3, ".nii.gz"), (OLD, 4, ".nii")]
)
def test_brats_of_either_naming(tmp_path, suffixes, enhancing, end):
    for case in ("BraTS-GLI-00002-000", "BraTS-GLI-00001-001", "BraTS-GLI-00001-000"):
        brats(tmp_path, case, suffixes, end)
    touch(tmp_path / "name_mapping.csv")
    source = read_source(tmp_path)
    assert source.layout == "brats"
    assert source.modalities == ("FLAIR", "T1w", "T1gd", "T2w")
    assert source.labels == {"necrosis": 1, "edema": 2, "enhancing": enhancing}
    first = source.cases[0]
    assert first.id == "BraTS-GLI-00001-000"
    assert [path.name for path in first.images] == [f"{first.id}{suffix}{end}" for suffix in suffixes[:4]]
    assert first.label.name == f"{first.id}{suffixes[4]}{end}"
    assert [case.group for case in source.cases] == ["BraTS-GLI-00001", "BraTS-GLI-00001", "BraTS-GLI-00002"]


def test_older_brats_cases_are_patients(tmp_path):
    assert read_source(brats(tmp_path, "BraTS20_Training_031", OLD)).cases[0].group == "BraTS20_Training_031"


def test_a_case_folder_is_a_source_too(tmp_path):
    brats(tmp_path, "case", OLD)
    (case,) = read_source(tmp_path / "case").cases
    assert case.id == "case"
    assert case.images[0] == tmp_path / "case" / "case_flair.nii.gz"


def test_files_may_be_named_otherwise_than_their_folder(tmp_path):
    """As the segmentation of BraTS20_Training_355 was."""
    brats(tmp_path, "case", OLD[:4])
    label = touch(tmp_path / "case" / "W39_1998_seg.nii.gz")
    assert read_source(tmp_path).cases[0].label == label


def test_any_subset_of_the_modalities(tmp_path):
    brats(tmp_path, "a", ["_flair", "_t1ce", "_seg"])
    brats(tmp_path, "b", ["_flair", "_t1ce"])
    source = read_source(tmp_path)
    assert source.modalities == ("FLAIR", "T1gd")
    assert source.cases[1].label is None


def test_a_modality_that_one_case_lacks_stays_expected(tmp_path):
    brats(tmp_path, "a", OLD)
    brats(tmp_path, "b", ["_flair", "_t1", "_t2", "_seg"])
    source = read_source(tmp_path)
    assert len(source.modalities) == 4
    assert source.cases[1].images[2] == tmp_path / "b" / "b_t1ce.nii.gz"
    assert not source.cases[1].images[2].exists()


def test_folders_that_are_no_case_are_reported(tmp_path):
    brats(tmp_path, "a", OLD)
    touch(tmp_path / "b" / "notes.txt")
    assert "expected b_flair.nii.gz or the like, found none" in str(read_source(tmp_path).unmatched["b"])


def test_two_namings_in_one_folder_are_rejected(tmp_path):
    brats(tmp_path, "a", OLD)
    brats(tmp_path, "b", NEW)
    with pytest.raises(UserError, match="expected one BraTS naming"):
        read_source(tmp_path)


def test_a_missing_folder(tmp_path):
    with pytest.raises(UserError, match="nowhere: expected a folder of scans, found no folder"):
        read_source(tmp_path / "nowhere")


def test_an_unknown_layout(tmp_path):
    with pytest.raises(
        UserError, match=r"expected a known layout: .*dataset.json \(msd\).*found an empty folder"
    ):
        read_source(tmp_path)
    touch(tmp_path / "scan.nii.gz")
    with pytest.raises(UserError, match=r"found scan.nii.gz;"):
        read_source(tmp_path)
    with pytest.raises(
        UserError, match=r"--layout: expected auto, .*, csv, bids, brats, lits or folders, found 'dicom'"
    ):
        read_source(tmp_path, "dicom")
    with pytest.raises(
        UserError, match=r"dataset.json: expected the description that the msd layout needs, found no file"
    ):
        read_source(tmp_path, "msd")
    with pytest.raises(UserError, match=r"expected folders with files such as case_flair.nii.gz, found none"):
        read_source(tmp_path, "brats")


def test_the_real_sources(shared):
    hippocampus = read_source(shared / "data" / "msd_hippocampus")
    assert len(hippocampus.cases) == 200
    assert hippocampus.labels == {"anterior": 1, "posterior": 2}
    assert hippocampus.modalities == ("MRI",)
    assert not hippocampus.unmatched
    assert read_source(shared / "data" / "brats2021").labels == {"necrosis": 1, "edema": 2, "enhancing": 4}
    assert read_source(shared / "data" / "msd_brain_slab").modalities == ("FLAIR", "T1w", "T1gd", "T2w")
