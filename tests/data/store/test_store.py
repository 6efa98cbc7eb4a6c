import json
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ossnet.data import Geometry, Store, StoredCase, preprocess, preprocess_label, read_source, restore
from ossnet.data.imaging.normalization import Intensity
from ossnet.data.store.case_file import CaseHeader, read_case, read_case_header, write_case
from ossnet.data.store.quantization import Quantization
from ossnet.data.store.statistics import CaseStatistics
from ossnet.errors import UserError


def a_case(shape: tuple[int, int, int] = (3, 4, 5)) -> StoredCase:
    rng = np.random.default_rng(0)
    rows = tuple(tuple(row) for row in np.eye(4).tolist())
    label = rng.integers(0, 3, shape).astype(np.uint8)
    statistics = CaseStatistics(
        shape=shape,
        spacing=(1.0, 1.0, 1.0),
        class_counts=tuple(np.bincount(label.ravel(), minlength=3).tolist()),
        intensities=(Intensity(1, 2, 3, 4, 5, 6, 7), Intensity(8, 9, 10, 11, 12, 13, 14)),
        foreground_intensities=(Intensity(0, 0, 0, 0, 0, 0, 0), Intensity(1, 1, 1, 1, 1, 1, 1)),
        storage="float16",
        errors=(0.25, 0.5),
    )
    geometry = Geometry(shape, rows, rows, 1, None, 0, (1.0, 1.0, 1.0), ("mm", "sec"), shape)
    voxels = rng.standard_normal((2, *shape)).astype(np.float16)
    return StoredCase(CaseHeader("case", "patient", geometry, statistics), voxels, label)


def edit(store: Path, target: Path, **changes: object) -> Path:
    """A copy of a store with another manifest."""
    shutil.copytree(store, target)
    values = json.loads((target / "manifest.json").read_text())
    (target / "manifest.json").write_text(json.dumps(values | changes))
    return target


def test_a_case_comes_back_as_it_was(tmp_path):
    case = a_case()
    write_case(tmp_path / "case.arrow", case)
    again = read_case(tmp_path / "case.arrow")
    np.testing.assert_array_equal(again.image, case.image)
    np.testing.assert_array_equal(again.label, case.label)
    assert (again.image.dtype, again.label.dtype) == (np.float16, np.uint8)
    assert again.header == case.header
    for name in ("id", "geometry", "statistics", "spacing"):
        assert getattr(again, name) == getattr(case, name)
    assert again.image.shape == (2, 3, 4, 5)
    assert read_case_header(tmp_path / "case.arrow") == case.header
    assert [path.name for path in tmp_path.iterdir()] == ["case.arrow"]


def test_voxels_are_mapped_not_read(tmp_path):
    write_case(tmp_path / "case.arrow", a_case((40, 40, 40)))
    case = read_case(tmp_path / "case.arrow")
    assert not case.image.flags.writeable
    assert not case.image.flags.owndata
    assert not case.label.flags.owndata
    maps = Path("/proc/self/maps").read_text()
    assert str(tmp_path / "case.arrow") in maps
    (tmp_path / "case.arrow").unlink()
    assert np.isfinite(case.image).all()  # the mapping outlives the name
    with pytest.raises(ValueError, match="read-only"):
        case.image[...] = 0


def test_equal_cases_are_equal_bytes(tmp_path):
    write_case(tmp_path / "a.arrow", a_case())
    write_case(tmp_path / "b.arrow", a_case())
    assert (tmp_path / "a.arrow").read_bytes() == (tmp_path / "b.arrow").read_bytes()


@pytest.mark.parametrize("content", [b"", b"ARROW1 but not really"])
def test_a_damaged_case_is_reported(tmp_path, content):
    (tmp_path / "case.arrow").write_bytes(content)
    with pytest.raises(UserError, match=r"case.arrow: expected a case of the store"):
        read_case(tmp_path / "case.arrow")


def test_a_store_lists_its_cases(phantom_store):
    store = Store.open(phantom_store)
    assert store.task.modalities == ("FLAIR", "T1w", "T1gd", "T2w")
    assert store.task.classes == 3
    assert store.max_shape == (28, 26, 22)
    assert len(store.split("training")) == 8
    assert len(store.split("validation")) == 2
    assert store.split("test") == ()
    assert sorted(store.split("training") + store.split("validation")) == list(store.split("all"))
    case = store.case(store.split("all")[4])
    assert case.image.shape == (4, 28, 26, 22)
    assert case.geometry.shape == (26, 22, 28)  # stored as P I R
    assert sum(case.statistics.class_counts) == case.label.size


def test_cases_equal_what_a_new_scan_would_be(phantom_store):
    """A store and a prediction see the same voxels, but for the store's half precision."""
    store, source = Store.open(phantom_store), read_source(phantom_store.parent / "source")
    for expected in source.cases:
        scan, stored = preprocess(expected.images, store.task), store.case(expected.id)
        np.testing.assert_allclose(stored.image, scan.image, rtol=2**-10, atol=1e-6)
        assert stored.geometry == scan.geometry
        label = preprocess_label(expected.label, store.task, like=scan.geometry)
        np.testing.assert_array_equal(stored.label, label)
        assert restore(stored.label, stored.geometry).shape == scan.geometry.shape


def test_statistics(phantom_store):
    store = Store.open(phantom_store)
    statistics = store.manifest.statistics
    assert statistics.max_shape == statistics.median_shape == (28, 26, 22)
    assert statistics.median_spacing == (1, 1, 1)
    cases = [store.case(case) for case in store.split("all")]
    voxels = np.concatenate([case.label.ravel() for case in cases])
    names = ["background", "edema", "non-enhancing", "enhancing"]
    fractions = np.bincount(voxels, minlength=4) / voxels.size
    assert statistics.class_frequencies == pytest.approx(dict(zip(names, fractions, strict=True)))
    assert statistics.intensities["T1w"].maximum == max(
        case.statistics.intensities[1].maximum for case in cases
    )
    source = nibabel.load(phantom_store.parent / "source" / "imagesTr" / "phantom_004.nii.gz")
    label = nibabel.load(phantom_store.parent / "source" / "labelsTr" / "phantom_004.nii.gz")
    marked = np.asarray(source.dataobj)[..., 2][np.asarray(label.dataobj) > 0].astype(float)
    found = cases[4].statistics.foreground_intensities[2]
    assert found.mean == pytest.approx(marked.mean())
    assert found.percentile_99_5 == np.quantile(marked, 0.995, method="lower")
    assert statistics.foreground_intensities["T1gd"].mean == pytest.approx(
        np.mean([case.statistics.foreground_intensities[2].mean for case in cases])
    )
    assert statistics.errors["T2w"] == max(case.statistics.errors[3] for case in cases)


def test_whole_numbers_are_read_as_intensities(tmp_path):
    half = a_case()
    scales = (Quantization(0.5, 3), Quantization(0.25, -7))
    stored = np.random.default_rng(1).integers(-99, 99, half.voxels.shape).astype(np.int16)
    statistics = replace(half.statistics, storage="int16")
    case = replace(half, voxels=stored, header=replace(half.header, statistics=statistics, scales=scales))
    write_case(tmp_path / "case.arrow", case)
    again = read_case(tmp_path / "case.arrow")
    assert (again.voxels.dtype, again.image.dtype, again.scales) == (np.int16, np.float32, scales)
    assert not again.voxels.flags.owndata
    np.testing.assert_array_equal(again.image[0], (stored[0] - 3.0) * 0.5)
    np.testing.assert_array_equal(again.image[1], (stored[1] + 7.0) * 0.25)
    assert read_case_header(tmp_path / "case.arrow").statistics.storage == "int16"


def divided(store: Path, target: Path) -> Path:
    """A copy with two cases held out and the others in two folds."""
    manifest = json.loads((store / "manifest.json").read_text())
    names = sorted(manifest["cases"])
    folds = [names[2:6], names[6:]]
    splits = {"training": folds[1], "validation": folds[0], "test": names[:2]}
    return edit(store, target, splits=splits, folds=folds)


def test_the_test_split_is_read_only_where_requested(phantom_store, tmp_path):
    path = divided(phantom_store, tmp_path / "store")
    store = Store.open(path)
    assert len(store.split("training")) == len(store.split("validation")) == 4
    for name in ("test", "all"):
        with pytest.raises(
            UserError,
            match=f"the {name} split, which is held out for the end; use ossnet evaluate, which alone",
        ):
            store.split(name)
    with pytest.raises(UserError, match="phantom_001, which is held out"):
        store.case("phantom_001")
    opened = Store.open(path, with_test=True)
    assert opened.split("test") == ("phantom_000", "phantom_001")
    assert len(opened.split("all")) == 10
    assert opened.case("phantom_001").id == "phantom_001"


def test_nothing_but_evaluation_opens_a_store_with_its_test_split():
    root = Path(__file__).parents[3]
    files = [path for folder in ("ossnet", "jobs", "search_spaces") for path in (root / folder).rglob("*.py")]
    found = [path.relative_to(root).as_posix() for path in files if "with_test=True" in path.read_text()]
    assert found == ["ossnet/commands/evaluate.py"]


def test_each_fold_validates_what_the_others_train(phantom_store, tmp_path):
    store = Store.open(divided(phantom_store, tmp_path / "store"), with_test=True)
    for fold in range(2):
        assert store.split("validation", fold=fold) == store.manifest.folds[fold]
        assert store.split("training", fold=fold) == store.manifest.folds[1 - fold]
        assert store.split("test", fold=fold) == store.split("test")
    for fold in (-1, 2):
        with pytest.raises(UserError, match=f"expected the fold {fold}, found 2 folds, counted from 0"):
            store.split("training", fold=fold)
    with pytest.raises(UserError, match="expected the fold 0, found no folds; prepare with --folds"):
        Store.open(phantom_store).split("validation", fold=0)


def test_folds_that_share_a_group_are_rejected(phantom_store, tmp_path):
    path = divided(phantom_store, tmp_path / "store")
    manifest = json.loads((path / "manifest.json").read_text())
    for number, (stray, homes) in enumerate([(2, "fold 0 and in the fold 1"), (0, "fold 1 and in the test")]):
        folds = [manifest["folds"][0], [*manifest["folds"][1], sorted(manifest["cases"])[stray]]]
        with pytest.raises(UserError, match=homes):
            Store.open(edit(path, tmp_path / f"spoilt {number}", folds=folds))


def test_unknown_names_get_the_nearest(phantom_store):
    store = Store.open(phantom_store)
    with pytest.raises(
        UserError, match="expected a known split, found 'validaton'; did you mean 'validation'"
    ):
        store.split("validaton")
    with pytest.raises(UserError, match="'phantom_0001'; did you mean 'phantom_001'"):
        store.case("phantom_0001")


@pytest.mark.parametrize(
    ("version", "remedy"), [(4, "update ossnet"), (2, "make it anew with ossnet prepare --output ")]
)
def test_another_schema_version_is_rejected(phantom_store, tmp_path, version, remedy):
    path = edit(phantom_store, tmp_path / "store", schema_version=version, something_new=1)
    with pytest.raises(
        UserError, match=rf"manifest.json: expected store schema version 3, found version {version}; {remedy}"
    ):
        Store.open(path)


def test_splits_that_share_a_group_are_rejected(phantom_store, tmp_path):
    splits = json.loads((phantom_store / "manifest.json").read_text())["splits"]
    splits["validation"].append(splits["training"][0])
    with pytest.raises(UserError, match="found it in the training and in the validation split"):
        Store.open(edit(phantom_store, tmp_path / "store", splits=splits))


def test_what_is_no_store_is_reported(tmp_path):
    with pytest.raises(
        UserError, match=r"nowhere: expected a store, found no such folder; make it with ossnet prepare"
    ):
        Store.open(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"expected a store, found no manifest.json"):
        Store.open(tmp_path)
    (tmp_path / "case.nii.gz").touch()
    with pytest.raises(UserError, match=r"found scans; make a store of them with ossnet prepare --source"):
        Store.open(tmp_path)
    (tmp_path / "manifest.json").write_text('{"name": "some web application"}')
    with pytest.raises(UserError, match=r"manifest.json: expected a store's manifest"):
        Store.open(tmp_path)


def test_a_case_that_is_gone_is_reported(phantom_store, tmp_path):
    store = Store.open(edit(phantom_store, tmp_path / "store"))
    case = store.split("all")[0]
    (store.root / store.manifest.cases[case].file).unlink()
    with pytest.raises(UserError, match="expected a case of the store"):
        store.case(case)


def test_a_store_is_no_source_of_scans(phantom_store):
    with pytest.raises(UserError, match=r"found a store, which is prepared already; give it as --data"):
        read_source(phantom_store)
