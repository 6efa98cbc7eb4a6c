"""What a case takes to be made, and how exactly its voxels are kept."""

import json
import tracemalloc

import nibabel
import numpy as np
import pytest
from small_study import image_of, prepare_here, rewrite

from ossnet.data import PrepareConfig, Store, preprocess, write_phantom
from ossnet.data.prepare.build import make_case
from ossnet.data.prepare.plan import make_plan
from ossnet.data.prepare.survey import PROCESS_MEMORY
from ossnet.data.store.case_file import write_case


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
    make_case(case, plan.recipe)  # imports
    tracemalloc.start()
    write_case(plan.path(case), make_case(case, plan.recipe))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    promised = plan.surveys[case.id].memory - PROCESS_MEMORY
    assert peak < promised < 2 * peak


def test_what_is_stored_is_within_the_error_that_is_reported(study, tmp_path):
    for storage in ("float16", "int16"):
        config = PrepareConfig(study, tmp_path / storage, storage=storage)
        manifest = prepare_here(make_plan(config))
        store = Store.open(config.output)
        for case in make_plan(config).cases:
            scan, stored = preprocess(case.case.images, store.task), store.case(case.id)
            found = np.abs(stored.image.astype(np.float32) - scan.image).max(axis=(1, 2, 3))
            np.testing.assert_allclose(manifest.cases[case.id].statistics.errors, found, rtol=1e-6)
            assert manifest.cases[case.id].statistics.storage == stored.voxels.dtype == storage
            np.testing.assert_array_equal(stored.image == 0, scan.image == 0)
        errors = manifest.statistics.errors
        assert set(errors) == set(store.task.modalities)
        assert max(errors.values()) < {"float16": 2**-8, "int16": 2**-12}[storage]


def test_a_case_too_coarse_for_half_floats_becomes_whole_numbers(scans, tmp_path):
    def glow(image: np.ndarray) -> np.ndarray:
        image[5, 5, 5] = 32000  # about 75 deviations of a volume with 5760 voxels
        return image

    rewrite(image_of(scans), glow)
    manifest = prepare_here(make_plan(PrepareConfig(scans, tmp_path / "store", normalization=("zscore",))))
    assert {name: entry.statistics.storage for name, entry in manifest.cases.items()} == {
        f"phantom_{number:03d}": "int16" if number == 1 else "float16" for number in range(5)
    }
    assert max(manifest.cases["phantom_001"].statistics.errors) < 0.001
    image = Store.open(tmp_path / "store").case("phantom_001").image
    assert (image.dtype, image.shape) == (np.float32, (4, 20, 18, 16))
    assert image.max() > 64


@pytest.mark.parametrize(
    ("names", "kinds"),
    [
        (("noNorm", "CT"), ("none", "ct")),
        (("noNorm", "noNorm"), ("none", "none")),
        (("MRI", "nonorm"), ("zscore-foreground", "none")),
    ],
)
def test_what_nnunet_calls_no_norm_is_stored_as_it_is(tmp_path, names, kinds):
    scans = write_phantom(tmp_path / "scans", cases=2, shape=(12, 12, 12), modalities=["FLAIR", "T1w"])
    document = json.loads((scans / "dataset.json").read_text())
    (scans / "dataset.json").write_text(
        json.dumps(document | {"modality": {str(number): name for number, name in enumerate(names)}})
    )
    config = PrepareConfig(scans, tmp_path / "store")
    manifest = prepare_here(make_plan(config))
    assert manifest.task.normalizations == kinds
    store = Store.open(config.output)
    for case in make_plan(config).cases:
        voxels = nibabel.as_closest_canonical(nibabel.load(case.images[0].path)).get_fdata()
        stored = store.case(case.id).image
        for number, kind in enumerate(kinds):
            same = np.abs(stored[number] - voxels[..., number]).max() < 1
            assert same == (kind == "none")
