"""Channels, labels and cases of one name, paths as people write them, and nothing left out unsaid."""

import json
import logging
import os
from pathlib import Path

import pytest

from ossnet.data import Task, read_source
from ossnet.data.imaging.normalization import default_normalization
from ossnet.data.layouts.modalities import base_name, channel_names
from ossnet.errors import UserError
from ossnet.inference.batch.inputs import channel_columns, find_scans

LABELS = {"0": "background", "1": "organ"}


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def describe(root: Path, entries: list[dict[str, object]], **changes: object) -> Path:
    root.mkdir(exist_ok=True)
    description = {"modality": {"0": "CT"}, "labels": LABELS, "training": entries}
    (root / "dataset.json").write_text(json.dumps(description | changes))
    return root


def nnunet(root: Path, files: list[str], channels: tuple[str, ...] = ("CT",), **changes: object) -> Path:
    for name in files:
        touch(root / name)
    names = {str(number): name for number, name in enumerate(channels)}
    description = {"channel_names": names, "labels": {"background": 0, "a": 1}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(description | changes))
    return root


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("MRI", "MRI"), ("MRI_0000", "MRI_0001")),
        (("Mri", "MRI"), ("Mri_0000", "MRI_0001")),
        (("t1", "T1w", "CT"), ("T1w_0000", "T1w_0001", "CT")),
        (("MRI", "MRI", "MRI_0001"), ("MRI_0000", "MRI_0001_0001", "MRI_0001_0002")),
        (("", " "), ("channel_0000", "channel_0001")),
    ],
)
def test_channels_of_one_name_are_told_apart_by_number(names, expected):
    assert channel_names(names) == expected == channel_names(expected)


def test_no_normalization_and_ct_are_known_with_a_number_too():
    kinds = [
        default_normalization(base_name(name)) for name in channel_names(("noNorm", "nonorm", "ct", "CT"))
    ]
    assert kinds == ["none", "none", "ct", "ct"]


def test_each_channel_is_read_from_its_own_file(tmp_path):
    files = [f"imagesTr/c_{number:04d}.nii.gz" for number in range(2)]
    root = nnunet(tmp_path, [*files, "labelsTr/c.nii.gz"], ("MRI", "MRI"))
    for names in (("MRI", "MRI"), read_source(root).modalities):
        (scan,) = find_scans([root], Task(modalities=names, labels={"a": 1}))
        assert [path.name for path in scan.images] == ["c_0000.nii.gz", "c_0001.nii.gz"]
    (scan,) = find_scans([root], Task(modalities=("MRI", "MRI", "MRI"), labels={"a": 1}))
    assert "expected the modalities MRI_0000, MRI_0001, MRI_0002" in str(scan.error)
    assert channel_columns(Task(modalities=("image", "MRI", "mri"), labels={"a": 1})) == [
        "image_0000",
        "MRI_0001",
        "mri_0002",
    ]


@pytest.mark.parametrize(
    ("there", "error"),
    [
        (("first", "second"), None),
        (("T1_pre", "T1_post"), None),
        (("MRI", "MRI"), None),
        (("T2w", "T1w"), None),  # by their names, the other way round
        (("T1w", "second"), "expected the modalities T1w, T2w, found T1w, second"),
        (("T2w", "second"), "expected the modalities T1w, T2w, found T2w, second"),
        (("first", "second", "third"), "found first, second, third"),
    ],
)
def test_channels_that_are_called_otherwise_are_matched_by_number(tmp_path, caplog, there, error):
    files = [f"imagesTr/c_{number:04d}.nii.gz" for number in range(len(there))]
    root = nnunet(tmp_path, [*files, "labelsTr/c.nii.gz"], there)
    with caplog.at_level(logging.WARNING, "ossnet"):
        (scan,) = find_scans([root], Task(modalities=("T1w", "T2w"), labels={"a": 1}))
    if error is not None:
        assert error in str(scan.error)
        return
    by_name = set(there) == {"T1w", "T2w"}
    numbers = (1, 0) if by_name else (0, 1)
    assert [path.name for path in scan.images] == [f"c_{number:04d}.nii.gz" for number in numbers]
    assert ("their order counts" in caplog.text) == (not by_name)


def test_ids_that_collide_across_layouts_have_files_of_their_own(tmp_path):
    """Scans of a data set, of a plain folder and of files, which differ in case or in their bytes alone."""
    name = os.fsdecode(b"\xe4")
    nnunet(tmp_path / "one", ["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"])
    describe(tmp_path / "two", [{"image": "A.nii.gz"}])
    long = "x" * 247
    for path in ("two/A.nii.gz", f"plain/{name}.nii.gz", "plain/\\xe4.nii.gz", f"plain/{long}1.nii.gz"):
        touch(tmp_path / path)
    files = [touch(tmp_path / "c" / "a.nii.gz"), touch(tmp_path / "c" / f"{long}2.nii.gz")]
    folders = [tmp_path / folder for folder in ("one", "two", "plain")]
    scans = find_scans([*folders, *files], Task(modalities=("CT",), labels={"a": 1}))
    assert len(scans) == 7
    assert not [scan.error for scan in scans if scan.error]
    assert len({scan.case for scan in scans}) == len({scan.file.casefold() for scan in scans}) == 7
    assert all(len(os.fsencode(f"{scan.file}_uncertainty.nii.gz")) <= 255 for scan in scans)


def test_one_name_in_many_folders_gives_a_case_each(tmp_path):
    entries = [{"image": f"P{n}/imaging.nii.gz", "label": f"P{n}/segmentation.nii.gz"} for n in range(4)]
    for entry in entries:
        touch(tmp_path / entry["image"])
        touch(tmp_path / entry["label"])
    source = read_source(describe(tmp_path, entries, numTraining=4))
    assert [case.id for case in source.cases] == [f"P{n}_imaging" for n in range(4)]
    assert not source.unmatched
    assert not source.warnings


def test_counts_add_up(tmp_path):
    touch(tmp_path / "imagesTr" / "a.nii.gz")
    touch(tmp_path / "labelsTr" / "a.nii.gz")
    entry = {"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}
    for name in ("b.NII.GZ", "c.mha", "d.hdr", "d.img"):
        touch(tmp_path / "imagesTr" / name)
    (tmp_path / "imagesTr" / "e.nii.gz").symlink_to("/nowhere")
    source = read_source(describe(tmp_path, [entry, entry, entry], numTraining=3))
    assert len(source.cases) == 1
    assert sorted(source.unmatched) == ["a (again)", "a (again) (2)", "b", "c", "d", "e"]
    assert "numTraining: expected 3 cases, found 1" in str(source.warnings[0])


@pytest.mark.parametrize(
    ("left", "note"),
    [
        ([], None),
        (["b.nii.gz"], "1 that do not (b.nii.gz)"),
        (["sub/b.NII", "c.mha", "notes.txt", "sub/readme"], "2 that do not (c.mha, sub/b.NII)"),
        ([f"{name}.nii" for name in "bcde"], "4 that do not (b.nii, c.nii, d.nii, ...)"),
    ],
)
def test_scans_that_a_table_does_not_list_are_a_note(tmp_path, caplog, left, note):
    for name in ["a.nii.gz", "sub/a_seg.nii.gz", *left]:
        touch(tmp_path / name)
    (tmp_path / "labels.json").write_text('{"organ": 1}')
    (tmp_path / "cases.csv").write_text("case,CT,label\na,a.nii.gz,sub/a_seg.nii.gz\n")
    with caplog.at_level(logging.INFO, "ossnet"):
        source = read_source(tmp_path / "cases.csv")
    assert not source.warnings
    notes = [record.getMessage() for record in caplog.records]
    assert len(notes) == (note is not None)
    assert all(f"note: {tmp_path}: expected every scan to belong to a case, found {note}" in n for n in notes)


def test_endings_in_upper_case_are_read_and_said(tmp_path):
    root = nnunet(tmp_path, ["imagesTr/a_0000.NII.GZ", "labelsTr/a.nii.gz", "other/b.nii.gz", "c.nrrd"])
    source = read_source(root)
    assert [case.images[0].name for case in source.cases] == ["a_0000.NII.GZ"]
    assert [warning.found for warning in source.warnings] == [
        ".NII.GZ",
        "2 that do not (c.nrrd, other/b.nii.gz)",
    ]


@pytest.mark.parametrize(
    "written",
    [
        r"imagesTr\a.nii.gz",
        " imagesTr/a.nii.gz ",
        "/mnt/data/Task01/imagesTr/a.nii.gz",
        r"C:\x\imagesTr\a.nii.gz",
    ],
)
def test_paths_as_people_write_them(tmp_path, written):
    image = touch(tmp_path / "imagesTr" / "a.nii.gz")
    root = describe(tmp_path, [{"image": written}])
    text = (root / "dataset.json").read_text()
    (root / "dataset.json").write_text(text, encoding="utf-8-sig")
    assert read_source(root).cases[0].images == (image,)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("ImagesTr/a_0000.nii.gz", "expected the folder imagesTr, found ImagesTr; rename it"),
        ("imageTr/a_0000.nii.gz", "expected the folder imagesTr, found imageTr; rename it"),
        ("imagesTr/a.0000.nii.gz", "expected a_0000.nii.gz, found a.0000.nii.gz; rename it"),
    ],
)
def test_names_nearly_right_get_the_expected_one(tmp_path, file, expected):
    with pytest.raises(UserError, match=expected):
        read_source(nnunet(tmp_path, [file]))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ({"0": "background", "1": "Tumor", "2": "tumor"}, {"tumor-1": 1, "tumor-2": 2}),
        ({"0": "background", "1": "a b", "2": "A/B", "3": "c"}, {"a-b-1": 1, "a-b-2": 2, "c": 3}),
        ({"0": "background", "1": "", "2": "x"}, {"label": 1, "x": 2}),
        ({"0": "organ", "1": "lesion"}, {"lesion": 1}),
    ],
)
def test_labels_that_collide_are_kept_and_said(tmp_path, labels, names):
    source = read_source(describe(tmp_path, [{"image": "a.nii.gz"}], labels=labels))
    assert source.labels == names
    assert len(source.warnings) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"0": "organ", "1": "lesion", "2": "background"}', "found 0 called organ and 2 called background"),
        ('{"0": "background", "1": "a", "1": "b"}', "1: expected each key once, found it twice"),
        ('{"0": "background", "1": "a", "01": "b"}', "labels: expected a table such as"),
    ],
)
def test_labels_that_contradict_each_other_are_refused(tmp_path, text, expected):
    root = describe(tmp_path, [{"image": "a.nii.gz"}])
    old = json.dumps(LABELS)
    (root / "dataset.json").write_text((root / "dataset.json").read_text().replace(old, text))
    with pytest.raises(UserError, match=expected):
        read_source(root)


def test_ids_can_be_printed_and_their_files_are_found(tmp_path):
    name = os.fsdecode(b"bj\xf6rn")
    source = read_source(nnunet(tmp_path, [f"imagesTr/{name}_0000.nii.gz", f"labelsTr/{name}.nii.gz"]))
    (case,) = source.cases
    assert case.id == r"bj\xf6rn"
    assert case.images[0].is_file()
    assert case.label.is_file()
    (scan,) = find_scans([tmp_path / "imagesTr"], Task(modalities=("CT",), labels={"a": 1}))
    assert scan.file.startswith("bj_xf6rn_0000~")
