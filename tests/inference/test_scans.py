"""Scans as Python code has them give what their files give, and keep their headers."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from ossnet.data import Store, Task
from ossnet.errors import UserError
from ossnet.inference import Predictor
from ossnet.inference.scans import read_scan

AFFINE = np.array([[0, 0, -1.5, 20], [-1, 0, 0, 30], [0, 2, 0, -5], [0, 0, 0, 1.0]])
TASK = Task(("FLAIR", "T1w"), {"tumor": 1}, normalization="zscore", spacing=(1.0, 1.0, 1.0))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A scan of two modalities, the second one stored along other axes."""
    random, paths = np.random.default_rng(0), dict[str, Path]()
    for name in TASK.modalities:
        image = nibabel.Nifti1Image(random.normal(100, 20, (6, 7, 8)).astype(np.float32), AFFINE)
        image.header.set_qform(AFFINE, 3)
        if name == "T1w":
            image = nibabel.as_closest_canonical(image)
        paths[name] = tmp_path / f"{name}.nii.gz"
        nibabel.save(image, paths[name])
    return paths


def test_files_images_and_arrays_are_the_same_scan(files: dict[str, Path]) -> None:
    expected = read_scan(list(files.values()), TASK)
    images = {name: nibabel.load(path) for name, path in files.items()}
    turned = [nibabel.as_closest_canonical(image) for image in images.values()]
    stacked = np.stack([np.asarray(image.dataobj) for image in turned], -1)
    for given in (dict(reversed(files.items())), list(images.values()), images):
        scan = read_scan(given, TASK)
        np.testing.assert_allclose(scan.image, expected.image, atol=1e-5)
        assert scan.geometry == expected.geometry
    affine = turned[0].affine
    for scan in (
        read_scan(stacked, TASK, affine=affine),
        read_scan((stacked, affine), TASK),
        read_scan([np.asarray(image.dataobj) for image in turned], TASK, affine=affine),
    ):
        np.testing.assert_allclose(scan.image, expected.image, atol=1e-5)
        np.testing.assert_allclose(scan.geometry.working_affine, expected.geometry.working_affine)


def test_an_image_whose_affine_was_changed_is_where_it_says(files: dict[str, Path]) -> None:
    image = nibabel.load(files["FLAIR"])
    moved = AFFINE.copy()
    moved[0, 3] += 10
    image.affine[...] = moved
    scan = read_scan(image, Task(("FLAIR",), {"tumor": 1}))
    np.testing.assert_array_equal(np.array(scan.geometry.affine), moved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda files, image: {"FLAIR": image, "T2w": image}, "FLAIR, T1w, found FLAIR, T2w"),
        (lambda files, image: np.zeros((4, 4, 4, 2)), "an affine, from voxels to mm, found an array alone"),
        (lambda files, image: [files["FLAIR"], image], r"files only.*FLAIR\.nii\.gz"),
        (lambda files, image: [image], r"2 channels \(FLAIR, T1w\), found 1"),
        (lambda files, image: [image, 3], "image of nibabel.* found int"),
        (lambda files, image: [image, image.slicer[:4]], "the shape"),
        (
            lambda files, image: [nibabel.Nifti1Image(np.ones((4, 4, 4), "c8"), AFFINE)] * 2,
            "complex64",
        ),
    ],
)
def test_what_is_no_scan_is_named(change, message: str, files: dict[str, Path]) -> None:
    with pytest.raises(UserError, match=message):
        read_scan(change(files, nibabel.load(files["FLAIR"])), TASK)


def test_a_segmentation_of_an_image_has_its_header(
    phantom_store: Path, phantom_checkpoint: Path, tmp_path: Path
) -> None:
    path = min((phantom_store.parent / "source" / "imagesTr").glob("*.nii.gz"))
    image = nibabel.load(path)
    segmentation = Predictor.from_checkpoint(phantom_checkpoint)(image)
    segmentation.save(str(tmp_path / "labels.nii.gz"))
    saved = nibabel.load(tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(saved.affine, image.affine)
    for name in ("sform_code", "qform_code", "xyzt_units"):
        assert saved.header[name] == image.header[name]
    assert repr(segmentation).startswith("Segmentation(28 x 26 x 22 voxels of 1 x 1 x 1 mm; edema ")
    page = segmentation._repr_html_()
    assert page.count("<img ") == 1
    assert [f"{name}: " in page for name in Store.open(phantom_store).task.labels] == [True] * 3
    with pytest.raises(UserError, match="did you mean 'edema'"):
        segmentation.mask("edma")
