import json
import re
import shutil
from collections import Counter
from pathlib import Path

import nibabel
import numpy as np
import pytest
from planted_faults import (
    FAULTS,
    HEALTHY,
    MORE_FAULTS,
    image_of,
    label_of,
    one_voxel,
    plant,
    rewrite,
    write_case,
)

from ossnet.data import PrepareConfig, verify, write_phantom
from ossnet.data.imaging.nifti import read_header
from ossnet.data.prepare.build import make_case
from ossnet.data.prepare.plan import make_plan
from ossnet.data.verification import Issue, Verification, inspection
from ossnet.errors import UserError


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> Path:
    return plant(tmp_path_factory.mktemp("faulty") / "scans", FAULTS)


@pytest.fixture(scope="module")
def strange(tmp_path_factory) -> Path:
    return plant(tmp_path_factory.mktemp("strange") / "scans", MORE_FAULTS)


def excluded(scans: Path, output: Path) -> dict[str, str]:
    """What preparing would not use, with the reason."""
    plan = make_plan(PrepareConfig(scans, output))
    reasons = dict(plan.excluded)
    for case in plan.cases:
        try:
            make_case(case, plan.recipe)
        except UserError as error:
            reasons[case.id] = str(error)
    return reasons


def assert_found(found: Verification, faults: dict, root: Path) -> None:
    """Exactly one finding a fault, of its kind, that names the file and what to do."""
    by_case = {finding.case: finding for finding in found.findings}
    assert sorted(by_case) == sorted(faults)
    assert len(found.findings) == len(faults)
    for case, fault in faults.items():
        finding = by_case[case]
        expected = image_of(root, case, fault.file) if fault.file else root / case
        assert (finding.where, finding.severity) == (str(expected), fault.severity), case
        assert re.search(
            fault.what if "|" in fault.what else re.escape(fault.what), finding.what + finding.remedy
        ), finding
        assert finding.remedy
        assert "\n" not in finding.what + finding.remedy


def test_twenty_faults_are_twenty_findings(faulty):
    assert len(FAULTS) == 20
    found = verify(faulty)
    assert_found(found, FAULTS, faulty)
    assert found.exit_code == 2
    assert set(HEALTHY) <= set(found.usable)
    assert found.errors + found.warnings == 20


def test_more_faults_that_scanners_and_tools_leave(strange):
    assert_found(verify(str(strange), "brats"), MORE_FAULTS, strange)


@pytest.mark.parametrize("folder", ["faulty", "strange"])
def test_errors_are_what_preparing_excludes_for_the_same_reason(folder, tmp_path, request):
    scans = request.getfixturevalue(folder)
    errors = {each.case: each for each in verify(scans).findings if each.severity == "error"}
    reasons = excluded(scans, tmp_path / "store")
    assert errors.keys() == reasons.keys()
    for case, finding in errors.items():
        assert reasons[case] == f"{finding.where}: {finding.what}; {finding.remedy}"


def test_two_faults_of_a_case_are_both_reported(tmp_path):
    write_case(tmp_path, "a", 0)
    rewrite(image_of(tmp_path, "a"), one_voxel(np.nan))
    rewrite(label_of(tmp_path, "a"), one_voxel(9))
    found = verify(tmp_path)
    paths = [label_of(tmp_path, "a"), image_of(tmp_path, "a")]
    assert [finding.where for finding in found.findings] == list(map(str, paths))


def test_healthy_cases_give_nothing_but_facts(tmp_path):
    for index, case in enumerate(HEALTHY[:2]):
        write_case(tmp_path, case, index)
    found = verify(tmp_path)
    assert (found.findings, found.remap, found.exit_code) == ((), (), 0)
    view = found.cases[0]
    image = np.asarray(nibabel.load(image_of(tmp_path, HEALTHY[0])).dataobj)
    label = np.asarray(nibabel.load(label_of(tmp_path, HEALTHY[0])).dataobj)
    flair = view.images[0]
    assert (flair.shape, flair.spacing, flair.orientation) == (image.shape, (1.0, 1.0, 1.0), "LPS")
    assert (flair.dtype, flair.codes, view.label.codes) == ("int16", (1, 1), (0, 1))
    assert (flair.minimum, flair.maximum) == (image.min(), image.max())
    assert view.label.dtype == "float32"
    assert view.voxels == {str(value): int((label == value).sum()) for value in range(4)}
    assert view.picture.startswith("data:image/jpeg;base64,")
    assert "picture" not in json.dumps(found.to_dict()["cases"][0]["images"])


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAL", "IPR"])
def test_the_picture_is_the_same_however_axes_are_stored(tmp_path, codes):
    """One plane through most of the label, front up and the patient's right on the left."""
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    write_case(tmp_path / "lps", "a", 0)
    shutil.copytree(tmp_path / "lps", tmp_path / "other")
    for path in (tmp_path / "other" / "a").iterdir():
        image = nibabel.load(path)
        turned = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(codes)))
        nibabel.save(nibabel.Nifti1Image(np.asarray(turned.dataobj), turned.affine), path)
    first, second = (verify(tmp_path / name).cases[0] for name in ("lps", "other"))
    assert first.picture == second.picture
    assert first.label.digest == second.label.digest


def test_copies_of_a_patient_stay_together_and_of_two_may_part(tmp_path):
    for case in ("BraTS-GLI-00001-000", "BraTS-GLI-00001-001", "BraTS-GLI-00002-000"):
        write_case(tmp_path, case, 0)
    within, apart = verify(tmp_path).findings
    assert "found those of BraTS-GLI-00001-000" in within.what
    assert "different splits" not in within.what
    assert "different splits" in apart.what


def test_one_file_for_two_modalities_is_reported(tmp_path):
    write_case(tmp_path, "a", 0)
    image, label = (path(tmp_path, "a").relative_to(tmp_path) for path in (image_of, label_of))
    (tmp_path / "cases.csv").write_text(f"case,FLAIR,T1,label\na,{image},{image},{label}\n")
    (finding,) = verify(tmp_path, "csv").findings
    assert finding.what == "expected voxels of its own as T1w, found those of FLAIR"


def foreground_intensities(root: Path, *values: float, labels: dict[str, int]) -> Path:
    """A CSV study whose cases each hold 0, 1 and one of these values."""
    rng = np.random.default_rng(0)
    root.mkdir()
    lines = ["case,CT,label"]
    for number, value in enumerate(values):
        label = np.zeros((6, 5, 4), np.float32)
        label[1 + number % 3] = value
        nibabel.save(nibabel.Nifti1Image(rng.normal(size=label.shape), np.eye(4)), root / f"{number}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), root / f"{number}-label.nii.gz")
        lines.append(f"{number},{number}.nii.gz,{number}-label.nii.gz")
    (root / "cases.csv").write_text("\n".join(lines))
    (root / "labels.json").write_text(json.dumps(labels))
    return root


@pytest.mark.parametrize(
    ("values", "labels", "expected"),
    [
        ((2, 255), {"liver": 1, "tumour": 2}, {"255": "background"}),
        ((255, 255), {"liver": 1}, {"255": "liver"}),
        ((1, 4), {"necrosis": 1, "edema": 2, "enhancing": 3}, {"4": "enhancing"}),
        ((1, 3), {"necrosis": 1, "edema": 2, "enhancing": 4}, {"3": "enhancing"}),
        ((1, 1.02), {"liver": 1, "tumour": 2}, {"1.02": "liver"}),
        ((1, 5, 9), {"liver": 1, "tumour": 2, "cyst": 3}, {"5": "tumour", "9": "cyst"}),
        ((1, -1), {"liver": 1}, {"-1": "background"}),
        ((1, 5), {"liver": 1}, {}),
    ],
)
def test_what_odd_labels_probably_mean(tmp_path, values, labels, expected):
    found = verify(foreground_intensities(tmp_path / "scans", *values, labels=labels))
    assert {each.value: each.name for each in found.remap} == expected
    assert all(each.cases and each.why for each in found.remap)
    assert found.errors == sum(value not in labels.values() for value in values)


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("complex.nii.gz", "expected one real number a voxel, found complex voxels"),
        ("ct_perfusion.nii.gz", "expected one real number a voxel, found color voxels"),
        ("four.nii.gz", "expected 1 modalities, found 2 (2 in four.nii.gz)"),
    ],
)
def test_what_is_no_scalar_volume_is_rejected(shared, tmp_path, file, expected):
    if file == "four.nii.gz":
        nibabel.save(nibabel.Nifti1Image(np.ones((4, 4, 4, 2), np.int16), np.eye(4)), tmp_path / file)
    else:
        shutil.copy(shared / "data" / "headers" / file, tmp_path / file)
    nibabel.save(nibabel.Nifti1Image(np.eye(4, dtype=np.uint8)[..., None], np.eye(4)), tmp_path / "label.nii")
    (tmp_path / "cases.csv").write_text(f"case,CT,label\na,{file},label.nii\n")
    (finding,) = verify(tmp_path).findings
    assert (finding.severity, finding.where, finding.what) == ("error", str(tmp_path / file), expected)
    with pytest.raises(UserError, match=re.escape(expected)):
        make_plan(PrepareConfig(tmp_path, tmp_path / "store"))


def test_a_real_case_as_brats_2023_writes_it(shared, tmp_path):
    names = {"flair": "t2f", "t1": "t1n", "t1ce": "t1c", "t2": "t2w"}
    source, case = shared / "data" / "brats2021" / "BraTS2021_00006", "BraTS-GLI-00006-000"
    (tmp_path / case).mkdir()
    for old, new in names.items():
        shutil.copy(source / f"{source.name}_{old}.nii.gz", tmp_path / case / f"{case}-{new}.nii.gz")
    old = nibabel.load(source / f"{source.name}_seg.nii.gz")
    voxels = np.asarray(old.dataobj).astype(np.float32)
    voxels[voxels == 4] = 3
    label = nibabel.Nifti1Image(voxels, old.affine)
    label.set_sform(None, 0)
    label.set_qform(old.affine, 1)
    nibabel.save(label, tmp_path / case / f"{case}-seg.nii.gz")
    found = verify(tmp_path)
    assert (found.layout, found.findings) == ("brats", ())
    assert found.labels == {"necrosis": 1, "edema": 2, "enhancing": 3}
    assert found.cases[0].label.codes == (0, 1)
    assert found.cases[0].voxels["3"] == 26448


@pytest.mark.parametrize("folder", ["msd_hippocampus", "msd_brain_slab", "brats2021"])
def test_the_real_sources_give_nothing(shared, folder):
    found = verify(shared / "data" / folder)
    assert {each.severity for each in found.findings} <= {"note"}  # its scanners differ by thousands
    assert found.exit_code == 0
    assert bool(found.findings) == (folder == "msd_hippocampus")


def test_a_folder_that_is_none_is_an_error(tmp_path):
    with pytest.raises(UserError, match="nowhere: expected a folder of scans, found no folder"):
        verify(tmp_path / "nowhere")


def test_an_issue_has_the_fields_of_the_error():
    error = UserError("/a: b/c.nii", expected="x; y", found="z", remedy="fix it")
    issue = Issue.error(error, case="c")
    assert issue == Issue("error", "c", "/a: b/c.nii", "x; y", "z", "fix it")
    assert f"{issue.where}: {issue.what}; {issue.remedy}" == str(error)


def test_each_header_is_read_once(tmp_path, monkeypatch):
    scans = write_phantom(tmp_path / "scans", cases=2, shape=(16, 14, 12))
    read = Counter()

    def count(path):
        read[path] += 1
        return read_header(path)

    monkeypatch.setattr(inspection, "read_header", count)
    assert verify(scans).exit_code == 0
    files = [path for folder in ("imagesTr", "labelsTr") for path in (scans / folder).iterdir()]
    assert read == Counter(files)
