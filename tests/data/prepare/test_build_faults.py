"""What is wrong with a case, reported with its reason; what cannot be a study or a store."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from small_study import contents, image_of, label_of, prepare_here, rewrite

from ossnet.data import PrepareConfig, Store
from ossnet.data.prepare.plan import load_if_current, make_plan
from ossnet.errors import UserError


@pytest.mark.parametrize("target", ["labels", "foreground"])
def test_odd_values_are_read_as_what_they_are_said_to_mean(scans, tmp_path, target):
    rewrite(label_of(scans), lambda label: np.array([0, 255, 2, 4], np.uint8)[label])
    config = PrepareConfig(scans, tmp_path / "store", target=target)
    assert "found 4, 255 too" in prepare_here(make_plan(config)).excluded["phantom_001"]
    expected = Store.open(config.output).manifest.cases
    config = replace(config, labels=("enhancing=3,4", "background=0,1,255"))
    manifest = prepare_here(make_plan(config))
    assert not manifest.excluded
    if target == "labels":
        assert manifest.task.labels == {"non-enhancing": 2, "enhancing": 3}
        counts = expected["phantom_000"].statistics.class_counts
        assert manifest.cases["phantom_000"].statistics.class_counts == (counts[0] + counts[1], *counts[2:])
        assert min(manifest.cases["phantom_001"].statistics.class_counts) > 0
    else:
        label = nibabel.load(label_of(scans)).get_fdata()
        inside = np.isin(label, [2, 4]).sum()
        assert manifest.cases["phantom_001"].statistics.class_counts[1] == inside > 0


def shorten(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 9 // 10])


def spoil_nan(path: Path) -> None:
    image = nibabel.load(path)
    array = np.asarray(image.dataobj).astype(np.float32)
    array[3, 3, 3] = np.nan
    nibabel.save(nibabel.Nifti1Image(array, image.affine), path)


def move(path: Path) -> None:
    image = nibabel.load(path)
    affine = image.affine.copy()
    affine[:3, 3] += 5
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), affine), path)


FAULTS = {
    "image without label": (
        lambda scans: label_of(scans).unlink(),
        "labelsTr/phantom_001.nii.gz: expected a NIfTI file, found no file",
    ),
    "label without image": (
        lambda scans: image_of(scans).unlink(),
        "imagesTr/phantom_001.nii.gz: expected a NIfTI file, found no file",
    ),
    "truncated image": (
        lambda scans: shorten(image_of(scans)),
        "imagesTr/phantom_001.nii.gz: expected 46080 bytes",
    ),
    "truncated label": (
        lambda scans: shorten(label_of(scans)),
        "labelsTr/phantom_001.nii.gz: expected 5760 bytes",
    ),
    "empty file": (lambda scans: image_of(scans).write_bytes(b""), "expected a NIfTI file, found 0 bytes"),
    "strange label": (
        lambda scans: rewrite(label_of(scans), lambda label: label + 3 * (label > 2)),
        "labelsTr/phantom_001.nii.gz: expected label values [0, 1, 2, 3], found 6 too",
    ),
    "other shape": (
        lambda scans: rewrite(label_of(scans), lambda label: label[:-1]),
        "labelsTr/phantom_001.nii.gz: expected the shape (20, 18, 16) of its image, found (19, 18, 16)",
    ),
    "other place": (
        lambda scans: move(label_of(scans)),
        "expected the grid of its image, found its affine up to 8.66",
    ),
    "not finite": (lambda scans: spoil_nan(image_of(scans)), "expected finite voxels, found 1 that are NaN"),
    "channel missing": (
        lambda scans: rewrite(image_of(scans), lambda image: image[..., :3]),
        "imagesTr/phantom_001.nii.gz: expected 4 modalities, found 3",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_case_is_excluded_with_its_reason(scans, tmp_path, fault):
    spoil, reason = FAULTS[fault]
    spoil(scans)
    config = PrepareConfig(scans, tmp_path / "store")
    manifest = prepare_here(make_plan(config))
    assert list(manifest.excluded) == ["phantom_001"]
    assert reason in manifest.excluded["phantom_001"]
    assert "\n" not in manifest.excluded["phantom_001"]
    assert len(Store.open(config.output).split("all")) == 4
    assert load_if_current(make_plan(config)) == manifest


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("there", [True, False])
def test_strict_makes_it_fatal_and_leaves_nothing_new(scans, tmp_path, fault, there):
    spoil, reason = FAULTS[fault]
    config = PrepareConfig(scans, tmp_path / "store")
    if there:
        prepare_here(make_plan(config))
    before = contents(tmp_path / "store")
    spoil(scans)
    with pytest.raises(UserError) as caught:
        prepare_here(make_plan(replace(config, strict=True)))
    assert reason in str(caught.value)
    assert contents(tmp_path / "store") == before
    assert config.output.exists() == there


def test_nothing_usable_is_an_error(scans, tmp_path):
    for number in range(5):
        label_of(scans, number).unlink()
    with pytest.raises(
        UserError, match=r"scans: expected a usable case, found none: .*found no file.* \(and 4 more\)"
    ):
        make_plan(PrepareConfig(scans, tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def test_what_is_no_store_is_not_written_over(study, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"expected a new folder or a store, found thesis.tex"):
        make_plan(PrepareConfig(study, tmp_path))
    with pytest.raises(UserError, match=r"expected a folder for the store, found a file"):
        make_plan(PrepareConfig(study, tmp_path / "thesis.tex"))
