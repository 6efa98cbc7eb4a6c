"""LiTS, nnU-Net, CSV tables, and BraTS data whose files or numbers are not where their naming says."""

import json
import os
import random
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.data import read_source
from ossnet.errors import UserError


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def save(path: Path, *values: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    label = np.zeros((4, 3, 2), np.uint8)
    label.flat[: len(values)] = values
    nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), path)
    return path


def names(root: Path, *paths: Path | None) -> list[str | None]:
    return [path and str(path.relative_to(root)) for path in paths]


@pytest.mark.parametrize("end", [".nii", ".nii.gz"])
def test_lits_pairs_by_number_wherever_the_files_are(tmp_path, end):
    touch(tmp_path / "Training Batch 1" / f"volume-2{end}")
    touch(tmp_path / "Training Batch 2" / f"segmentation-2{end}")
    touch(tmp_path / "media" / "deep" / f"volume-10{end}")
    touch(tmp_path / "media" / "deep" / f"segmentation-10{end}")
    touch(tmp_path / f"volume-0{end}")
    touch(tmp_path / f"test-volume-3{end}")
    source = read_source(tmp_path)
    assert (source.layout, source.modalities, source.labels) == ("lits", ("CT",), {"liver": 1, "tumour": 2})
    paired = {case.id: names(tmp_path, *case.images, case.label) for case in source.cases}
    assert paired == {
        "volume-0": [f"volume-0{end}", None],
        "volume-10": [f"media/deep/volume-10{end}", f"media/deep/segmentation-10{end}"],
        "volume-2": [f"Training Batch 1/volume-2{end}", f"Training Batch 2/segmentation-2{end}"],
    }
    assert not source.unmatched


def test_lits_reports_what_has_no_partner_or_two(tmp_path):
    for name in ("volume-1.nii", "segmentation-1.nii", "segmentation-7.nii", "b/volume-1.nii"):
        touch(tmp_path / name)
    source = read_source(tmp_path, "lits")
    assert [case.id for case in source.cases] == ["volume-1"]
    assert "segmentation-7.nii: expected volume-7 too, found none" in str(source.unmatched["segmentation-7"])
    assert "expected one volume 1, found" in str(source.unmatched["volume-1 (again)"])


@given(
    volumes=st.sets(st.integers(0, 130), min_size=1, max_size=12),
    segmentations=st.sets(st.integers(0, 130), max_size=12),
    seed=st.integers(0, 99),
)
def test_lits_pairs_whatever_the_numbers(tmp_path_factory, volumes, segmentations, seed):
    root = tmp_path_factory.mktemp("lits")
    files = [f"volume-{n}.nii" for n in volumes] + [f"segmentation-{n}.nii" for n in segmentations]
    random.Random(seed).shuffle(files)
    for place, name in enumerate(files):
        touch(root / f"batch {place % 3}" / name)
    source = read_source(root)
    found = {case.images[0].name: case.label and case.label.name for case in source.cases}
    assert found == {
        f"volume-{n}.nii": f"segmentation-{n}.nii" if n in segmentations else None for n in volumes
    }
    assert set(source.unmatched) == {f"segmentation-{n}" for n in segmentations - volumes}


def nnunet(root: Path, cases: list[str], channels: int, end: str = ".nii.gz", **description: object) -> Path:
    for case in cases:
        for channel in range(channels):
            touch(root / "imagesTr" / f"{case}_{channel:04d}{end}")
        touch(root / "labelsTr" / f"{case}{end}")
    (root / "dataset.json").write_text(json.dumps(description))
    return root


SECOND = {
    "channel_names": {"1": "T1ce", "0": "FLAIR"},
    "labels": {"background": 0, "Edema": 2, "core": 1},
    "file_ending": ".nii.gz",
}


def first(cases: list[str]) -> dict:
    return {
        "modality": {"0": "FLAIR", "1": "T1"},
        "labels": {"0": "background", "1": "lesion"},
        "training": [
            {"image": f"./imagesTr/{case}.nii.gz", "label": f"./labelsTr/{case}.nii.gz"} for case in cases
        ],
    }


def test_nnunet_of_the_second_version(tmp_path):
    source = read_source(nnunet(tmp_path, ["b", "a_0001"], 2, **SECOND))
    assert (source.layout, source.modalities) == ("nnunet", ("FLAIR", "T1gd"))
    assert list(source.labels.items()) == [("core", 1), ("edema", 2)]
    assert [case.id for case in source.cases] == ["a_0001", "b"]
    assert names(tmp_path, *source.cases[0].images, source.cases[0].label) == [
        "imagesTr/a_0001_0000.nii.gz",
        "imagesTr/a_0001_0001.nii.gz",
        "labelsTr/a_0001.nii.gz",
    ]
    assert not source.unmatched


def test_nnunet_of_the_first_version_is_distinguished_from_msd_by_its_files(tmp_path):
    root = nnunet(tmp_path, ["a", "b"], 2, **first(["a", "b", "gone"]))
    source = read_source(root)
    assert (source.layout, source.modalities, source.labels) == ("nnunet", ("FLAIR", "T1w"), {"lesion": 1})
    assert [case.id for case in source.cases] == ["a", "b"]
    assert "expected an image of the case gone, which is listed under training, found none" in str(
        source.unmatched["gone"]
    )


def test_msd_whose_cases_end_in_four_digits_stays_msd(tmp_path):
    cases = ["scan_0000", "scan_0001"]
    for case in cases:
        touch(tmp_path / "imagesTr" / f"{case}.nii.gz")
        touch(tmp_path / "labelsTr" / f"{case}.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps(first(cases)))
    source = read_source(tmp_path)
    assert (source.layout, [case.id for case in source.cases]) == ("msd", cases)


def test_nnunet_reports_what_cannot_be_paired(tmp_path):
    root = nnunet(tmp_path, ["a", "b"], 2, **SECOND)
    for stray in ("imagesTr/c.nii.gz", "imagesTr/a_0002.nii.gz", "imagesTr/d_0000.nii", "labelsTr/e.nii.gz"):
        touch(root / stray)
    (root / "imagesTr" / "b_0001.nii.gz").unlink()
    source = read_source(root)
    assert [case.id for case in source.cases] == ["a", "b"]
    assert not source.cases[1].images[1].exists()  # reported by the reader
    assert sorted(source.unmatched) == ["a_0002.nii.gz", "c.nii.gz", "d_0000.nii", "e"]
    expected = "expected a name as case_0000.nii.gz to case_0001.nii.gz, found a_0002.nii.gz; rename it"
    assert expected in str(source.unmatched["a_0002.nii.gz"])
    assert "e.nii.gz: expected its image" in str(source.unmatched["e"])


def test_nnunet_regions_name_the_values_they_can(tmp_path):
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
    source = read_source(nnunet(tmp_path, ["a"], 1, channel_names={"0": "CT"}, labels=labels))
    assert source.labels == {"label-1": 1, "label-2": 2, "enhancing": 3}


def test_nnunet_may_list_files_elsewhere(tmp_path):
    listed = {"a": {"images": ["x/one.nii.gz", "x/two.nii.gz"], "label": "y/one.nii.gz"}}
    source = read_source(nnunet(tmp_path, [], 0, **SECOND, dataset=listed))
    (case,) = source.cases
    assert names(tmp_path, *case.images, case.label) == ["x/one.nii.gz", "x/two.nii.gz", "y/one.nii.gz"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"channel_names": {}}, "channel_names: expected a table such as"),
        ({"file_ending": ".png"}, "file_ending: expected one of .nii.gz, .nii, "),
        ({"labels": {"background": 0}}, "labels: expected a table such as"),
        ({"labels": {"background": 0, "x": "1"}}, "labels.x: expected a whole number"),
        ({"labels": {"background": 0, "x": 1, "ignore": 2}}, "labels.ignore: expected labels of every voxel"),
        ({"dataset": {"a": {"images": []}}}, "dataset.a: expected"),
    ],
)
def test_a_broken_nnunet_description_names_the_field(tmp_path, changes, expected):
    with pytest.raises(UserError, match=expected):
        read_source(nnunet(tmp_path, ["a"], 2, **(SECOND | changes)))


def table(root: Path, text: str, labels: dict[str, object] | None = None, name: str = "cases.csv") -> Path:
    root.mkdir(exist_ok=True)
    (root / name).write_text(text, encoding="utf-8-sig")  # as spreadsheets do
    if labels is not None:
        (root / "labels.json").write_text(json.dumps(labels))
    return root / name


FULL = """Case;flair;age;T1;Label;Group
b;scans/b flair.nii.gz;61;scans/b1.nii;b.nii;jane
a;a.nii.gz;;../a1.nii;a.nii;jane

c;c.nii.gz;40;c1.nii;;
"""


@pytest.mark.parametrize("named", [True, False])
def test_a_table_says_what_belongs_together(tmp_path, named):
    file = table(tmp_path / "study", FULL, {"background": 0, "Tumour": 2, "liver": 1})
    source = read_source(file if named else file.parent, allow_outside=True)
    assert (source.layout, source.modalities) == ("csv", ("FLAIR", "T1w"))
    assert list(source.labels.items()) == [("liver", 1), ("tumour", 2)]
    assert [(case.id, case.group) for case in source.cases] == [("a", "jane"), ("b", "jane"), ("c", "c")]
    assert source.cases[0].images == (tmp_path / "study" / "a.nii.gz", tmp_path / "study" / "../a1.nii")
    assert source.cases[1].images[0] == tmp_path / "study" / "scans" / "b flair.nii.gz"
    assert source.cases[2].label is None


def test_a_table_reports_rows_that_are_no_case(tmp_path):
    rows = [
        "a,a.nii,la.nii",
        "a,b.nii,la.nii",
        "x/y,c.nii,l.nii",
        ",d.nii,l.nii",
        "e,,l.nii",
        "f,f.nii,l.nii,more",
    ]
    file = table(tmp_path, "\n".join(["case,CT,label", *rows]), {"liver": 1})
    source = read_source(file)
    assert [case.id for case in source.cases] == ["a", "x/y"]
    assert {name: str(error).partition(": ")[2] for name, error in source.unmatched.items()} == {
        "a (again)": "row 2: expected case a once, found it twice; keep one of the rows",
        "row 4": "row 4: expected a case id, found none; give it one",
        "e": "row 5: expected a file for CT, found none; fill it in or remove the row",
        "f": "row 6: expected 3 cells, found 4; quote paths that hold a comma",
    }


def test_without_names_the_labels_are_those_that_files_hold(tmp_path):
    lines = ["case,CT,label"]
    for number in range(12):
        save(tmp_path / f"l{number}.nii", *((1, 4) if number % 2 else (1,)), *([255] if number == 3 else []))
        lines.append(f"{number:02d},i{number}.nii,l{number}.nii")
    touch(tmp_path / "l5.nii")  # unreadable, which is reported when it is used
    assert read_source(table(tmp_path, "\n".join(lines))).labels == {"label-1": 1, "label-4": 4}


def test_images_as_labels_declare_nothing(tmp_path):
    image = nibabel.Nifti1Image(np.arange(300, dtype=np.int16).reshape(10, 10, 3), np.eye(4))
    nibabel.save(image, tmp_path / "l.nii")
    file = table(tmp_path, "case,CT,label\na,i.nii,l.nii")
    with pytest.raises(
        UserError, match=r"cases.csv: expected at most 255 label values, found 299.*labels.json"
    ):
        read_source(file)


def test_a_mask_without_a_name_is_foreground(tmp_path):
    save(tmp_path / "l.nii", 1)
    assert read_source(table(tmp_path, "case,CT,label\na,i.nii,l.nii")).labels == {"foreground": 1}


@pytest.mark.parametrize(
    ("text", "labels", "expected"),
    [
        ("", None, "expected the columns case, label and one a modality with NIfTI files, found none"),
        ("case,age\na,6", None, "found case, age; add them"),
        ("id,CT\na,a.nii", None, "found id, CT; add them"),
        ("case,CT\na,a.nii", {"liver": "1"}, "labels.json: expected names and values such as"),
    ],
)
def test_a_table_that_is_none(tmp_path, text, labels, expected):
    with pytest.raises(UserError, match=expected):
        read_source(table(tmp_path, text, labels))


def test_two_tables_have_to_be_distinguished(tmp_path):
    table(tmp_path, "case,CT\na,a.nii")
    table(tmp_path, "case,CT\na,a.nii", name="more.csv")
    table(tmp_path, "ID,Age\na,60", name="survival.csv")
    with pytest.raises(UserError, match=r"found cases.csv, more.csv; name the file"):
        read_source(tmp_path)
    with pytest.raises(UserError, match="expected a folder for the layout msd, found a table"):
        read_source(tmp_path / "more.csv", "msd")


NEW = ["-t2f", "-t1n", "-t1c", "-t2w", "-seg"]


def test_brats_files_of_all_cases_in_one_folder(tmp_path):
    for case in ("BraTS-GLI-00001-000", "BraTS-GLI-00001-001", "BraTS-GLI-00002-000"):
        for suffix in NEW:
            touch(tmp_path / f"{case}{suffix}.nii.gz")
    (tmp_path / "BraTS-GLI-00002-000-t1c.nii.gz").unlink()
    touch(tmp_path / "BraTS-GLI-00003-000-seg.nii.gz")
    source = read_source(tmp_path)
    assert (source.layout, source.modalities) == ("brats", ("FLAIR", "T1w", "T1gd", "T2w"))
    assert [case.group for case in source.cases] == ["BraTS-GLI-00001", "BraTS-GLI-00001", "BraTS-GLI-00002"]
    for case in source.cases:
        assert [path.name for path in case.images] == [f"{case.id}{suffix}.nii.gz" for suffix in NEW[:4]]
        assert case.label.name == f"{case.id}-seg.nii.gz"
    assert list(source.unmatched) == ["BraTS-GLI-00003-000-seg.nii.gz"]


def test_brats_files_next_to_case_folders_are_reported(tmp_path):
    for case in ("a", "b"):
        for suffix in NEW:
            touch(tmp_path / case / f"{case}{suffix}.nii.gz")
    touch(tmp_path / "c-seg.nii.gz")
    assert list(read_source(tmp_path).unmatched) == ["c-seg.nii.gz"]
    for suffix in NEW:
        touch(tmp_path / f"b{suffix}.nii.gz")
        touch(tmp_path / f"d{suffix}.nii.gz")
    source = read_source(tmp_path)
    assert [case.id for case in source.cases] == ["a", "b", "d"]
    assert source.cases[1].images[0].parent == tmp_path
    assert "expected the case once" in str(source.unmatched["b (again)"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_case_folder_that_may_not_be_read_is_reported(tmp_path):
    for case in ("a", "b"):
        for suffix in NEW:
            touch(tmp_path / case / f"{case}{suffix}.nii.gz")
    (tmp_path / "b").chmod(0)
    source = read_source(tmp_path)
    (tmp_path / "b").chmod(0o700)
    assert [case.id for case in source.cases] == ["a"]
    assert "expected a folder that may be read, found no permission; give yourself permission" in str(
        source.unmatched["b"]
    )


@pytest.mark.parametrize(
    ("suffix", "values", "enhancing"),
    [
        ("-seg", [(1, 2, 4)] * 3, 4),
        ("-seg", [(1, 2, 3)] * 3, 3),
        ("_seg", [(1, 2, 3)] * 3, 3),
        ("_seg", [(1, 2)] * 3, 4),
        ("-seg", [(1, 2, 4), (1, 2, 3), (1, 2, 3)], 3),  # one odd case among others
        ("-seg", [(3, 4), (1,), (2,)], 3),  # a fourth class does not decide
    ],
)
def test_the_number_of_enhancing_tumour_is_that_of_the_labels(tmp_path, suffix, values, enhancing):
    for number, held in enumerate(values):
        touch(tmp_path / f"c{number}" / f"c{number}{'-t2f' if suffix == '-seg' else '_flair'}.nii.gz")
        save(tmp_path / f"c{number}" / f"c{number}{suffix}.nii.gz", *held)
    assert read_source(tmp_path).labels["enhancing"] == enhancing


def test_msd_labels_that_are_not_listed_are_reported(tmp_path):
    touch(tmp_path / "labelsTr" / "b.nii.gz")
    (tmp_path / "dataset.json").write_text(json.dumps(first(["a"])))
    assert "labelsTr/b.nii.gz: expected the file to be listed" in str(read_source(tmp_path).unmatched["b"])
