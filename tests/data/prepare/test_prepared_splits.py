"""Where the cases of a store go: drawn, or as they are given."""

import json
from dataclasses import replace

import numpy as np
from small_study import label_of, prepare_here, rewrite

from ossnet.data import PrepareConfig, write_phantom
from ossnet.data.prepare.plan import load_if_current, make_plan


def test_a_patient_s_classes_and_volume_decide_where_they_go(tmp_path):
    scans = write_phantom(tmp_path / "scans", cases=10, shape=(12, 12, 12), modalities=["FLAIR"])
    for number in (2, 5):  # without enhancing tumour
        rewrite(label_of(scans, number), lambda label: np.minimum(label, 2))
    config = PrepareConfig(scans, tmp_path / "store", test_fraction=0.2, validation_fraction=0.2, folds=2)
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
    assert load_if_current(make_plan(config)) == manifest
    path.write_text(json.dumps(given | {"phantom_004": "validation"}))
    plan = make_plan(config)
    assert load_if_current(plan) is None
    assert not plan.missing
    assert prepare_here(plan).splits["validation"] == ("phantom_004",)


def test_an_excluded_case_leaves_its_given_split(scans, tmp_path):
    label_of(scans).unlink()
    path = tmp_path / "splits.json"
    path.write_text(json.dumps({f"phantom_{number:03d}": "training" for number in range(5)}))
    manifest = prepare_here(make_plan(PrepareConfig(scans, tmp_path / "store", splits=path)))
    assert len(manifest.splits["training"]) == 4
