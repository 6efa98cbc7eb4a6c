import json
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ossnet.data import PrepareConfig, Store, preprocess, write_phantom
from ossnet.data.casefile import write_case
from ossnet.data.plan import PROCESS_MEMORY, Plan, finished, make_plan, parse_spacing
from ossnet.data.preparation import building, complete, make_case, sweep
from ossnet.data.store import Manifest
from ossnet.errors import UserError


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """Five phantom cases; read only."""
    return write_phantom(tmp_path_factory.mktemp("study") / "scans", cases=5, shape=(20, 18, 16))


@pytest.fixture
def scans(study, tmp_path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(study, tmp_path / "scans"))


def label_of(scans: Path, number: int = 1) -> Path:
    return scans / "labelsTr" / f"phantom_{number:03d}.nii.gz"


def image_of(scans: Path, number: int = 1) -> Path:
    return scans / "imagesTr" / f"phantom_{number:03d}.nii.gz"


def rewrite(path: Path, change) -> None:
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(change(np.asarray(image.dataobj)), image.affine, image.header), path)


def prepare_here(plan: Plan) -> Manifest:
    """What a cluster does, in a loop."""
    set_aside = dict(plan.set_aside)
    with building(plan):
        for case in plan.missing:
            try:
                write_case(plan.path(case), make_case(case, plan))
            except UserError as error:
                set_aside[case.id] = str(error)
        return complete(plan, set_aside)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_loop_makes_a_store(study, tmp_path):
    config = PrepareConfig(study, tmp_path / "store")
    plan = make_plan(config)
    assert finished(plan) is None
    manifest = prepare_here(plan)
    assert finished(make_plan(config)) == manifest
    assert not manifest.set_aside
    assert manifest.configuration["normalisation"] == "auto"
    assert manifest.task.normalisation == "zscore-foreground"
    assert {path.name for path in config.output.iterdir()} == {"cases", "manifest.json"}


def test_only_what_is_missing_is_made(study, tmp_path):
    whole, cut = (PrepareConfig(study, tmp_path / name) for name in ("whole", "cut"))
    prepare_here(make_plan(whole))
    plan = make_plan(cut)
    with building(plan):
        for case in plan.missing[:2]:
            write_case(plan.path(case), make_case(case, plan))
    (cut.output / "cases" / ".half-written.arrow").write_bytes(b"ARROW")
    plan = make_plan(cut)
    assert [case.id for case in plan.missing] == ["phantom_002", "phantom_003", "phantom_004"]
    prepare_here(plan)
    assert contents(whole.output) == contents(cut.output)


def test_a_changed_input_renews_its_case_only(scans, tmp_path):
    config = PrepareConfig(scans, tmp_path / "store")
    before = prepare_here(make_plan(config))
    rewrite(label_of(scans), lambda label: np.minimum(label, 1))
    plan = make_plan(config)
    assert finished(plan) is None
    assert [case.id for case in plan.missing] == ["phantom_001"]
    assert Store.open(config.output).manifest == before  # whole until the new manifest is there
    after = prepare_here(plan)
    assert after.cases["phantom_001"].class_counts[2:] == (0, 0)
    assert len(list((config.output / "cases").iterdir())) == 5


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"spacing": (2.0, 2.0, 2.0)}, 5),
        ({"normalisation": "zscore"}, 5),
        ({"target": "foreground"}, 5),
        ({"labels": ("core=2,3",)}, 5),
        ({"target": "brats-regions"}, 0),
        ({"regions": ("core=2,3",)}, 0),
        ({"crop": 2.0}, 5),
        ({"interpolation": "linear"}, 0),  # nothing is resampled
        ({"storage": "int16"}, 5),
        ({"folds": 2}, 0),
        ({"seed": 1}, 0),
        ({"validation_share": 0.4}, 0),
        ({"strict": True}, 0),
    ],
)
def test_what_an_option_touches(study, tmp_path, change, missing):
    config = PrepareConfig(study, tmp_path / "store")
    prepare_here(make_plan(config))
    plan = make_plan(replace(config, **change))
    assert len(plan.missing) == missing
    assert (finished(plan) is not None) == bool({"strict", "interpolation"} & change.keys())


def test_options_reach_the_voxels(study, tmp_path):
    config = PrepareConfig(study, tmp_path / "store", spacing=(2.0, 2.0, 2.0), target="foreground")
    prepare_here(make_plan(config))
    store = Store.open(config.output)
    assert store.task.labels == {"foreground": 1}
    assert store.max_shape == (10, 9, 8)
    for case in map(store.case, store.split("all")):
        assert np.unique(case.label).tolist() == [0, 1]
        assert case.spacing == pytest.approx((2, 2, 2))
        assert len(case.class_counts) == 2


def test_regions_are_chosen_without_making_a_case_again(study, tmp_path):
    config = PrepareConfig(study, tmp_path / "store")
    plain = prepare_here(make_plan(config))
    files = {path: path.stat().st_mtime_ns for path in (config.output / "cases").iterdir()}
    manifests = [
        prepare_here(make_plan(replace(config, **change)))
        for change in (
            {"target": "brats-regions"},
            {"regions": ("ET=enhancing", "WT=1,2,3", "TC=2,3")},
            {"target": "whole-tumour"},
        )
    ]
    assert {path: path.stat().st_mtime_ns for path in (config.output / "cases").iterdir()} == files
    assert all(manifest.cases == plain.cases for manifest in manifests)
    assert all(manifest.task.labels == plain.task.labels for manifest in manifests)
    assert [manifest.task.class_names for manifest in manifests] == [
        ("WT", "TC", "ET"),
        ("ET", "WT", "TC"),  # another order makes other classes, hence another store
        ("whole-tumour",),
    ]
    assert len({manifest.fingerprint for manifest in (plain, *manifests)}) == 4
    assert Store.open(config.output).task == manifests[-1].task


@pytest.mark.parametrize("target", ["labels", "foreground"])
def test_odd_values_are_read_as_what_they_are_said_to_mean(scans, tmp_path, target):
    rewrite(label_of(scans), lambda label: np.array([0, 255, 2, 4], np.uint8)[label])
    config = PrepareConfig(scans, tmp_path / "store", target=target)
    assert "found 4, 255 too" in prepare_here(make_plan(config)).set_aside["phantom_001"]
    expected = Store.open(config.output).manifest.cases
    config = replace(config, labels=("enhancing=3,4", "background=0,1,255"))
    manifest = prepare_here(make_plan(config))
    assert not manifest.set_aside
    if target == "labels":
        assert manifest.task.labels == {"non-enhancing": 2, "enhancing": 3}
        counts = expected["phantom_000"].class_counts
        assert manifest.cases["phantom_000"].class_counts == (counts[0] + counts[1], *counts[2:])
        assert min(manifest.cases["phantom_001"].class_counts) > 0
    else:
        label = nibabel.load(label_of(scans)).get_fdata()
        inside = np.isin(label, [2, 4]).sum()
        assert manifest.cases["phantom_001"].class_counts[1] == inside > 0


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
        "labelsTr/phantom_001.nii.gz: file not found",
    ),
    "label without image": (
        lambda scans: image_of(scans).unlink(),
        "imagesTr/phantom_001.nii.gz: file not found",
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
def test_a_bad_case_is_set_aside_with_its_reason(scans, tmp_path, fault):
    spoil, reason = FAULTS[fault]
    spoil(scans)
    config = PrepareConfig(scans, tmp_path / "store")
    manifest = prepare_here(make_plan(config))
    assert list(manifest.set_aside) == ["phantom_001"]
    assert reason in manifest.set_aside["phantom_001"]
    assert "\n" not in manifest.set_aside["phantom_001"]
    assert len(Store.open(config.output).split("all")) == 4
    assert finished(make_plan(config)) == manifest


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
    with pytest.raises(UserError, match=r"scans: no usable case: .*file not found.* \(and 4 more\)"):
        make_plan(PrepareConfig(scans, tmp_path / "store"))
    assert not (tmp_path / "store").exists()


def test_what_is_no_store_is_not_written_over(study, tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"expected a new folder or a store, found thesis.tex"):
        make_plan(PrepareConfig(study, tmp_path))
    with pytest.raises(UserError, match=r"expected a folder for the store, found a file"):
        make_plan(PrepareConfig(study, tmp_path / "thesis.tex"))


@pytest.mark.parametrize(("version", "renewed"), [(3, False), (1, True)])
def test_a_newer_store_is_kept_and_an_older_one_renewed(study, tmp_path, version, renewed):
    config = PrepareConfig(study, tmp_path / "store")
    prepare_here(make_plan(config))
    path = config.output / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": version}))
    if renewed:
        assert prepare_here(make_plan(config)).schema_version == 2
    else:
        with pytest.raises(UserError, match="update ossnet"):
            make_plan(config)


@pytest.mark.parametrize(
    ("values", "expected"),
    [((), None), (("1,1,2.5",), (1.0, 1.0, 2.5)), (("1", "1", "2.5"), (1.0, 1.0, 2.5))],
)
def test_spacing_may_be_written_either_way(values, expected):
    assert parse_spacing(values) == expected


@pytest.mark.parametrize("values", [("1",), ("1,1",), ("a,b,c",), ("1", "2", "3", "4")])
def test_a_spacing_that_is_none(values):
    with pytest.raises(UserError, match="expected three sizes in mm, as in 1,1,1"):
        parse_spacing(values)


def test_a_spacing_that_is_not_positive(study, tmp_path):
    with pytest.raises(UserError, match="three sizes in mm above 0"):
        make_plan(PrepareConfig(study, tmp_path / "store", spacing=(1.0, 0.0, 1.0)))


@pytest.mark.parametrize(
    ("modalities", "options"),
    [
        (4, {}),
        (1, {"storage": "int16"}),
        (1, {"spacing": (0.7, 0.7, 0.7)}),
        (2, {"spacing": (2.0, 2.0, 2.0)}),
        (1, {"spacing": (1.0, 1.0, 4.0), "interpolation": "linear"}),
        (2, {"crop": 2.0}),
    ],
)
def test_the_memory_of_a_case_is_bounded_by_its_headers(tmp_path, modalities, options):
    names = ["FLAIR", "T1w", "T1gd", "T2w"][:modalities]
    scans = write_phantom(tmp_path / "scans", cases=1, shape=(96, 90, 88), modalities=names)
    plan = make_plan(PrepareConfig(scans, tmp_path / "store", **options))
    (case,) = plan.cases
    (tmp_path / "store" / "cases").mkdir(parents=True)
    make_case(case, plan)  # imports
    tracemalloc.start()
    write_case(plan.path(case), make_case(case, plan))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    promised = plan.surveys[case.id].memory - PROCESS_MEMORY
    assert peak < promised < 2 * peak


def test_what_is_stored_is_within_the_error_that_is_told(study, tmp_path):
    for storage in ("float16", "int16"):
        config = PrepareConfig(study, tmp_path / storage, storage=storage)
        manifest = prepare_here(make_plan(config))
        store = Store.open(config.output)
        for case in make_plan(config).cases:
            scan, stored = preprocess(case.images, store.task), store.case(case.id)
            found = np.abs(stored.image.astype(np.float32) - scan.image).max(axis=(1, 2, 3))
            np.testing.assert_allclose(manifest.cases[case.id].errors, found, rtol=1e-6)
            assert manifest.cases[case.id].storage == stored.voxels.dtype == storage
            np.testing.assert_array_equal(stored.image == 0, scan.image == 0)
        errors = manifest.statistics["errors"]
        assert set(errors) == set(store.task.modalities)
        assert max(errors.values()) < {"float16": 2**-8, "int16": 2**-12}[storage]


def test_a_case_too_coarse_for_half_floats_becomes_whole_numbers(scans, tmp_path):
    def glow(image: np.ndarray) -> np.ndarray:
        image[5, 5, 5] = 32000  # about 75 deviations of a volume with 5760 voxels
        return image

    rewrite(image_of(scans), glow)
    manifest = prepare_here(make_plan(PrepareConfig(scans, tmp_path / "store", normalisation="zscore")))
    assert {name: entry.storage for name, entry in manifest.cases.items()} == {
        f"phantom_{number:03d}": "int16" if number == 1 else "float16" for number in range(5)
    }
    assert max(manifest.cases["phantom_001"].errors) < 0.001
    image = Store.open(tmp_path / "store").case("phantom_001").image
    assert (image.dtype, image.shape) == (np.float32, (4, 20, 18, 16))
    assert image.max() > 64


def test_a_patient_s_classes_and_volume_decide_where_they_go(tmp_path):
    scans = write_phantom(tmp_path / "scans", cases=10, shape=(12, 12, 12), modalities=["FLAIR"])
    for number in (2, 5):  # without enhancing tumour
        rewrite(label_of(scans, number), lambda label: np.minimum(label, 2))
    config = PrepareConfig(scans, tmp_path / "store", test_share=0.2, validation_share=0.2, folds=2)
    for seed in range(4):
        manifest = prepare_here(make_plan(replace(config, seed=seed)))
        homes = [sum(case in fold for case in ("phantom_002", "phantom_005")) for fold in manifest.folds]
        assert max(homes) <= 1
        assert manifest.splits["validation"] == manifest.folds[0]
        assert manifest.splits["training"] == manifest.folds[1]
        assert len(manifest.splits["test"]) == 2
        assert not set(manifest.splits["test"]) & {case for fold in manifest.folds for case in fold}


def test_given_splits_are_kept(study, tmp_path):
    given = {f"phantom_{number:03d}": "training" for number in range(5)} | {"phantom_003": "test"}
    path = tmp_path / "splits.json"
    path.write_text(json.dumps(given))
    config = PrepareConfig(study, tmp_path / "store", splits=path)
    manifest = prepare_here(make_plan(config))
    assert manifest.splits["test"] == ("phantom_003",)
    assert manifest.splits["validation"] == ()
    assert finished(make_plan(config)) == manifest
    path.write_text(json.dumps(given | {"phantom_004": "validation"}))
    plan = make_plan(config)
    assert finished(plan) is None
    assert not plan.missing
    assert prepare_here(plan).splits["validation"] == ("phantom_004",)


def test_a_case_set_aside_leaves_its_given_split(scans, tmp_path):
    label_of(scans).unlink()
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({f"phantom_{number:03d}": "training" for number in range(5)}))
    manifest = prepare_here(make_plan(PrepareConfig(scans, tmp_path / "store", splits=path)))
    assert len(manifest.splits["training"]) == 4


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"folds": 1}, "folds 1: expected 2 or more"),
        ({"folds": 9}, "folds 9: expected at most one a group"),
        ({"folds": 2, "splits": Path("splits.json")}, "splits.json: expected no folds beside given splits"),
        ({"crop": -1.0}, "crop -1.0: expected a margin in mm from 0"),
        ({"normalisation": ("ct", "zscore")}, "expected one, or one for each of FLAIR, T1w, T1gd, T2w"),
    ],
)
def test_options_that_cannot_be(study, tmp_path, options, expected):
    with pytest.raises(UserError, match=expected):
        prepare_here(make_plan(PrepareConfig(study, tmp_path / "store", **options)))
    assert not (tmp_path / "store").exists()


def test_the_default_normalisation_is_by_modality(tmp_path):
    scans = write_phantom(tmp_path / "scans", cases=2, shape=(12, 12, 12), modalities=["FLAIR", "T1w"])
    document = json.loads((scans / "dataset.json").read_text())
    (scans / "dataset.json").write_text(json.dumps(document | {"modality": {"0": "CT", "1": "PET"}}))
    config = PrepareConfig(scans, tmp_path / "store")
    assert make_plan(config).task.normalisation == ("ct", "zscore-foreground")
    asked = replace(config, normalisation=("auto", "zscore"))
    assert make_plan(asked).task.normalisation == ("ct", "zscore")


def test_what_a_killed_run_left_is_swept(study, tmp_path):
    config = PrepareConfig(study, tmp_path / "store")
    manifest = prepare_here(make_plan(config))
    before = contents(config.output)
    (config.output / ".0123-manifest.json").write_text("{")
    (config.output / "cases" / ".half-written.arrow").write_bytes(b"ARROW")
    (config.output / ".cases-0123").mkdir()
    sweep(config.output, manifest)
    assert contents(config.output) == before
