"""Unusual headers, and files made to hang or to fill the memory, from verify to the store."""

import gzip
import json
import logging
import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from small_study import image_of, label_of, prepare_here, rewrite

from ossnet.data import PrepareConfig, Store, verify, write_phantom
from ossnet.data.prepare.plan import make_plan
from ossnet.errors import UserError


@pytest.fixture
def scans(tmp_path) -> Path:
    return write_phantom(tmp_path / "scans", cases=3, shape=(20, 18, 16))


def change_header(path: Path, **fields: object) -> None:
    image = nibabel.load(path)
    voxels = np.asarray(image.dataobj)
    content = bytearray(gzip.decompress(path.read_bytes()))
    for name, value in {"vox_offset": 352, **fields}.items():  # nibabel forgets it as it loads
        image.header[name] = value
    content[:348] = image.header.binaryblock
    assert voxels.nbytes < len(content)
    path.write_bytes(gzip.compress(bytes(content)))


def claim(path: Path, shape: tuple[int, ...]) -> None:
    change_header(path, dim=[3, *shape, 1, 1, 1, 1])


def add_bomb(path: Path, size: int = 200 << 20) -> None:
    content = gzip.decompress(path.read_bytes())
    with gzip.GzipFile(path, "wb", compresslevel=6) as stream:
        stream.write(content)
        for _ in range(size >> 20):
            stream.write(bytes(1 << 20))


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


HOSTILE = {
    "image that claims 30000^3": (image_of, lambda path: claim(path, (30000,) * 3), "cannot hold them"),
    "label that claims 30000^3": (label_of, lambda path: claim(path, (30000,) * 3), "cannot hold them"),
    "bomb behind an image": (image_of, add_bomb, "over 64 MiB more"),
    "bomb behind a label": (label_of, add_bomb, "over 64 MiB more"),
    "image is a FIFO": (image_of, make_fifo, "no regular file"),
    "label is a FIFO": (label_of, make_fifo, "no regular file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_a_finding_of_its_case_only(scans, tmp_path, name):
    which, spoil, expected = HOSTILE[name]
    spoil(which(scans))
    found = verify(scans)
    assert {issue.case for issue in found.findings if issue.severity == "error"} == {"phantom_001"}
    assert any(expected in issue.found and issue.where == str(which(scans)) for issue in found.findings)
    manifest = prepare_here(make_plan(PrepareConfig(scans, tmp_path / "store")))
    assert list(manifest.cases) == ["phantom_000", "phantom_002"]
    assert expected in manifest.excluded["phantom_001"]


def in_units(scans: Path, unit: str, factor: float) -> None:
    """The same sizes in another unit."""
    for path in scans.rglob("*.nii.gz"):
        image = nibabel.load(path)
        affine = np.diag([factor] * 3 + [1]) @ image.affine
        same = nibabel.Nifti1Image(np.asarray(image.dataobj), affine)
        same.header.set_xyzt_units(unit, "sec")
        nibabel.save(same, path)


@pytest.mark.parametrize(("unit", "factor"), [("micron", 1000.0), ("meter", 0.001)])
def test_a_store_is_the_same_in_any_unit(scans, tmp_path, unit, factor):
    options = {"crop": 2.0, "spacing": (1.5, 1.5, 1.5)}
    expected = prepare_here(make_plan(PrepareConfig(scans, tmp_path / "mm", **options)))
    in_units(scans, unit, factor)
    manifest = prepare_here(make_plan(PrepareConfig(scans, tmp_path / unit, **options)))
    assert manifest.cases.keys() == expected.cases.keys()
    for case, entry in manifest.cases.items():
        statistics = expected.cases[case].statistics
        np.testing.assert_allclose(entry.statistics.spacing, statistics.spacing, rtol=1e-5)
        assert entry.statistics.shape == statistics.shape
        assert entry.statistics.class_counts == statistics.class_counts
    assert all(1e-2 < size < 10 for view in verify(scans).cases for size in view.images[0].spacing)


def test_sizes_that_no_scanner_has_are_a_warning(scans):
    for path in (image_of(scans), label_of(scans)):
        change_header(path, xyzt_units=1)  # meters, though the numbers are mm
    (issue,) = verify(scans).findings
    assert (issue.severity, issue.case) == ("warning", "phantom_001")
    assert "the header's unit is meter" in issue.found


@pytest.mark.parametrize("codes", ["LPS", "SAR", "PIR", "ILA"])
def test_a_label_stored_along_other_axes_makes_the_same_store(scans, tmp_path, codes):
    expected = prepare_here(make_plan(PrepareConfig(scans, tmp_path / "before")))
    for path in (scans / "labelsTr").glob("*.nii.gz"):
        image = nibabel.load(path)
        from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

        turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(codes))
        nibabel.save(image.as_reoriented(turn), path)
    assert verify(scans).exit_code == 0
    prepare_here(make_plan(PrepareConfig(scans, tmp_path / "after")))
    before, after = Store.open(tmp_path / "before"), Store.open(tmp_path / "after")
    for case in expected.cases:
        np.testing.assert_array_equal(after.case(case).label, before.case(case).label)


def test_no_placement_is_a_warning_of_verify_and_prepare(scans, tmp_path, caplog):
    for path in (image_of(scans), label_of(scans), image_of(scans, 2), label_of(scans, 2)):
        change_header(path, sform_code=0, qform_code=0)
    found = verify(scans)
    assert [issue.case for issue in found.findings] == ["phantom_001", "phantom_002"]
    assert all("both codes are 0" in issue.found for issue in found.findings)
    assert found.exit_code == 1
    with caplog.at_level(logging.WARNING):
        manifest = prepare_here(make_plan(PrepareConfig(scans, tmp_path / "store")))
    assert len(manifest.cases) == 3
    assert "phantom_001.nii.gz and 1 more: neither sform nor qform" in caplog.text


def test_a_broken_qform_is_a_warning_where_the_sform_counts(scans):
    change_header(image_of(scans), quatern_b=9, qform_code=1)
    (issue,) = verify(scans).findings
    assert (issue.severity, issue.expected) == ("warning", "a rotation as qform")


def test_an_offset_of_0_is_read_right_and_said(scans, tmp_path):
    expected = prepare_here(make_plan(PrepareConfig(scans, tmp_path / "before")))
    for path in (image_of(scans), label_of(scans)):
        change_header(path, vox_offset=0)
    found = verify(scans)
    assert [issue.where for issue in found.findings] == [str(image_of(scans)), str(label_of(scans))]
    assert {(issue.severity, issue.case) for issue in found.findings} == {("warning", "phantom_001")}
    assert all("vox_offset 352" in issue.expected for issue in found.findings)
    manifest = prepare_here(make_plan(PrepareConfig(scans, tmp_path / "after")))
    assert {case: entry.statistics for case, entry in manifest.cases.items()} == {
        case: entry.statistics for case, entry in expected.cases.items()
    }


def many_labels(scans: Path, count: int) -> None:
    document = json.loads((scans / "dataset.json").read_text())
    document["labels"] = {"0": "background", **{str(value): f"r{value}" for value in range(1, count + 1)}}
    (scans / "dataset.json").write_text(json.dumps(document))


def test_more_labels_than_a_store_holds_are_one_finding(scans, tmp_path):
    many_labels(scans, 300)
    rewrite(label_of(scans), lambda label: np.where(label == 1, 290, label).astype(np.int16))
    (issue,) = verify(scans).findings
    assert (issue.severity, issue.expected, issue.found) == ("error", "at most 255", "300")
    with pytest.raises(UserError, match="labels: expected at most 255, found 300"):
        make_plan(PrepareConfig(scans, tmp_path / "store"))
    merged = PrepareConfig(scans, tmp_path / "store", labels=(f"rest={','.join(map(str, range(3, 301)))}",))
    assert len(prepare_here(make_plan(merged)).task.labels) == 3
    as_one = PrepareConfig(scans, tmp_path / "one", target="foreground")
    manifest = prepare_here(make_plan(as_one))
    assert not manifest.excluded
    inside = np.count_nonzero(nibabel.load(label_of(scans)).get_fdata())
    assert manifest.cases["phantom_001"].statistics.class_counts[1] == inside


@pytest.mark.parametrize("values", [(40000, 70000, 2**31 - 1), (-1, 2, 3), (1, 256, 65535)])
def test_large_and_negative_labels_reach_the_store(scans, tmp_path, values):
    document = json.loads((scans / "dataset.json").read_text())
    names = {"0": "background", **{str(value): f"n{index}" for index, value in enumerate(values)}}
    (scans / "dataset.json").write_text(json.dumps(document | {"labels": names}))
    for path in (scans / "labelsTr").glob("*.nii.gz"):
        image = nibabel.load(path)
        label = np.array([0, *values], np.int32)[np.minimum(np.asarray(image.dataobj), 3)]
        nibabel.save(nibabel.Nifti1Image(label, image.affine), path)
    assert verify(scans).exit_code == 0
    manifest = prepare_here(make_plan(PrepareConfig(scans, tmp_path / "store")))
    assert sorted(manifest.task.labels.values()) == sorted(values)
    stored = Store.open(tmp_path / "store").case("phantom_000")
    assert set(np.unique(manifest.task.decode(stored.label))) <= {0, *values}


def test_a_pair_is_a_case_of_a_table(scans, tmp_path):
    folder = tmp_path / "pairs"
    folder.mkdir()
    image = nibabel.load(image_of(scans))
    voxels = np.asarray(image.dataobj)
    nibabel.save(nibabel.Nifti1Pair(voxels[..., 0], image.affine), folder / "a.img")
    shutil.copy(label_of(scans), folder / "label.nii.gz")
    nibabel.save(nibabel.Nifti1Image(voxels[..., 1], image.affine), folder / "b.nii.gz")
    rows = "a,a.hdr,label.nii.gz\nb,b.nii.gz,label.nii.gz\n"
    (folder / "cases.csv").write_text(f"case,MRI,label\n{rows}")
    plan = make_plan(PrepareConfig(folder, tmp_path / "store"))
    assert not plan.excluded
    before = plan.fingerprint
    content = bytearray((folder / "a.img").read_bytes())
    content[0] ^= 1
    (folder / "a.img").write_bytes(content)
    assert make_plan(PrepareConfig(folder, tmp_path / "store")).fingerprint != before
