"""From a file into a store and, as a prediction that is the label itself, back to the file's own grid."""

import json
import shutil
from itertools import permutations, product
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from ossnet.data import PrepareConfig, restore, write_nifti
from ossnet.data.prepare.build import make_case
from ossnet.data.prepare.plan import make_plan
from ossnet.data.store.case_file import read_case, write_case
from ossnet.errors import UserError

AXES = ["".join(codes) for pairs in permutations(("RL", "AP", "IS")) for codes in product(*pairs)]
HEADERS = [
    "FLAIR",
    "lesion",
    "low_res",
    "minimal",
    "orient_ARS",
    "orient_IPR",
    "orient_LPS",
    "orient_PLI",
    "orient_RAS",
    "orient_SAL",
    "shear",
]


def study(folder: Path, image: Path, label: nibabel.Nifti1Image) -> Path:
    """A data set of one case."""
    (folder / "images").mkdir(parents=True)
    shutil.copy(image, folder / "images" / "case.nii.gz")
    nibabel.save(label, folder / "label.nii.gz")
    names = {"background": 0, **{f"class {value}": value for value in range(1, 8)}}
    case = {"image": "images/case.nii.gz", "label": "label.nii.gz"}
    document = {"modality": {"0": "MRI"}, "labels": {str(v): k for k, v in names.items()}, "training": [case]}
    (folder / "dataset.json").write_text(json.dumps(document))
    return folder


def assert_comes_back(source: Path, output: Path, **options: object) -> None:
    plan = make_plan(PrepareConfig(source, output, **options))
    (case,) = plan.cases
    plan.path(case).parent.mkdir(parents=True)
    write_case(plan.path(case), make_case(case, plan.recipe))
    stored = read_case(plan.path(case))
    write_nifti(
        output / "prediction.nii.gz",
        plan.task.decode(restore(stored.label, stored.geometry)),
        stored.geometry,
    )
    given, found = nibabel.load(source / "label.nii.gz"), nibabel.load(output / "prediction.nii.gz")
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(given.dataobj))
    np.testing.assert_allclose(found.affine, given.affine, atol=1e-4)
    image = nibabel.load(source / "images" / "case.nii.gz").header
    for name in ("sform_code", "qform_code", "xyzt_units"):
        assert found.header[name] == image[name], name
    np.testing.assert_allclose(found.header.get_zooms(), image.get_zooms()[:3], rtol=1e-6)


def labels_of(values: np.ndarray) -> np.ndarray:
    """Labels in all of which the image is not zero, so that cropping keeps them."""
    return np.where(values != 0, 1 + np.abs(np.nan_to_num(values)).astype(np.int64) % 7, 0).astype(np.uint8)


@pytest.mark.parametrize("crop", [None, 2.0])
@pytest.mark.parametrize("name", HEADERS)
def test_every_scalar_header_comes_back(shared, tmp_path, name, crop):
    path = shared / "data" / "headers" / f"{name}.nii.gz"
    image = nibabel.load(path)
    label = nibabel.Nifti1Image(labels_of(image.get_fdata()), image.affine, image.header)
    label.set_data_dtype(np.uint8)
    assert_comes_back(study(tmp_path / "scans", path, label), tmp_path / "store", crop=crop)


def test_every_scalar_header_is_tried(shared):
    names = {path.name.removesuffix(".nii.gz") for path in (shared / "data" / "headers").glob("*.nii.gz")}
    assert names == {*HEADERS, "complex", "ct_perfusion"}


@pytest.mark.parametrize(("name", "kind"), [("complex", "complex"), ("ct_perfusion", "color")])
def test_what_is_no_scalar_image_is_refused(shared, tmp_path, name, kind):
    path = shared / "data" / "headers" / f"{name}.nii.gz"
    label = nibabel.Nifti1Image(np.ones(nibabel.load(path).shape[:3], np.uint8), nibabel.load(path).affine)
    source = study(tmp_path / "scans", path, label)
    with pytest.raises(
        UserError, match=f"case.nii.gz: expected one real number a voxel, found {kind} voxels"
    ):
        make_plan(PrepareConfig(source, tmp_path / "store"))


def test_a_series_is_no_image(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.ones((4, 5, 6, 3), np.int16), np.eye(4)), tmp_path / "series.nii.gz")
    label = nibabel.Nifti1Image(np.ones((4, 5, 6), np.uint8), np.eye(4))
    source = study(tmp_path / "scans", tmp_path / "series.nii.gz", label)
    with pytest.raises(UserError, match=r"case.nii.gz: expected 1 modalities, found 3"):
        make_plan(PrepareConfig(source, tmp_path / "store"))


@settings(max_examples=96)
@given(
    codes=st.sampled_from(AXES),
    spacing=st.tuples(*[st.floats(0.3, 5)] * 3),
    angles=st.tuples(*[st.floats(-0.4, 0.4)] * 3),
    forms=st.sampled_from([(1, 1), (2, 0), (0, 1), (0, 3), (4, 2)]),
    crop=st.sampled_from([None, 0.0, 2.5]),
    seed=st.integers(0, 100),
)
def test_any_affine_and_axis_order_comes_back(tmp_path_factory, codes, spacing, angles, forms, crop, seed):
    folder, rng = tmp_path_factory.mktemp("trip"), np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = nibabel.eulerangles.euler2mat(*angles) @ np.diag(spacing)
    affine[:3, 3] = rng.uniform(-100, 100, 3)
    values = np.zeros((7, 8, 9), np.int16)
    values[2:5, 1:6, 3:] = rng.integers(0, 99, (3, 5, 6))
    image = nibabel.Nifti1Image(values, affine)
    image = image.as_reoriented(ornt_transform(io_orientation(affine), axcodes2ornt(codes)))
    image.header.set_sform(image.affine, forms[0])
    image.header.set_qform(image.affine, forms[1])
    nibabel.save(image, folder / "image.nii.gz")
    label = nibabel.Nifti1Image(labels_of(np.asarray(image.dataobj)), None, image.header)
    label.set_data_dtype(np.uint8)
    assert_comes_back(study(folder / "scans", folder / "image.nii.gz", label), folder / "store", crop=crop)
