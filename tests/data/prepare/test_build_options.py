"""What the options of a preparation do, and which of them make cases again."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_study import prepare_here

from ossnet.data import PrepareConfig, Store, write_phantom
from ossnet.data.prepare.config import parse_spacing
from ossnet.data.prepare.plan import load_if_current, make_plan
from ossnet.errors import UserError


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({"spacing": (2.0, 2.0, 2.0)}, 5),
        ({"normalization": ("zscore",)}, 5),
        ({"target": "foreground"}, 5),
        ({"labels": ("core=2,3",)}, 5),
        ({"target": "brats-regions"}, 0),
        ({"regions": ("core=2,3",)}, 0),
        ({"crop": 2.0}, 5),
        ({"interpolation": "linear"}, 0),  # nothing is resampled
        ({"storage": "int16"}, 5),
        ({"folds": 2}, 0),
        ({"seed": 1}, 0),
        ({"validation_fraction": 0.4}, 0),
        ({"strict": True}, 0),
    ],
)
def test_what_an_option_touches(study, tmp_path, change, missing):
    config = PrepareConfig(study, tmp_path / "store")
    prepare_here(make_plan(config))
    plan = make_plan(replace(config, **change))
    assert len(plan.missing) == missing
    assert (load_if_current(plan) is not None) == bool({"strict", "interpolation"} & change.keys())


def test_options_reach_the_voxels(study, tmp_path):
    config = PrepareConfig(study, tmp_path / "store", spacing=(2.0, 2.0, 2.0), target="foreground")
    prepare_here(make_plan(config))
    store = Store.open(config.output)
    assert store.task.labels == {"foreground": 1}
    assert store.max_shape == (10, 9, 8)
    for case in map(store.case, store.split("all")):
        assert np.unique(case.label).tolist() == [0, 1]
        assert case.spacing == pytest.approx((2, 2, 2))
        assert len(case.statistics.class_counts) == 2


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
    ("options", "expected"),
    [
        ({"folds": 1}, "--folds: expected 2 or more, found 1"),
        ({"folds": 9}, "--folds: expected at most 5, one a group .*found 9"),
        (
            {"folds": 2, "splits": Path("splits.json")},
            "splits.json: expected no folds together with given splits, found 2 folds",
        ),
        ({"crop": -1.0}, "--crop: expected a margin in mm from 0, found -1"),
        ({"normalization": ("ct", "zscore")}, "expected one, or one for each of FLAIR, T1w, T1gd, T2w"),
    ],
)
def test_options_that_cannot_be(study, tmp_path, options, expected):
    with pytest.raises(UserError, match=expected):
        prepare_here(make_plan(PrepareConfig(study, tmp_path / "store", **options)))
    assert not (tmp_path / "store").exists()


def test_the_default_normalization_is_by_modality(tmp_path):
    scans = write_phantom(tmp_path / "scans", cases=2, shape=(12, 12, 12), modalities=["FLAIR", "T1w"])
    document = json.loads((scans / "dataset.json").read_text())
    for names, expected in (
        (("noNorm", "nonorm"), ("none", "none")),
        (("noNorm", "CBCT"), ("none", "ct")),
        (("CT", "PET"), ("ct", "zscore-foreground")),
    ):
        modality = {"0": names[0], "1": names[1]}
        (scans / "dataset.json").write_text(json.dumps(document | {"modality": modality}))
        config = PrepareConfig(scans, tmp_path / "store")
        assert make_plan(config).task.normalizations == expected
    requested = replace(config, normalization=("auto", "zscore"))
    assert make_plan(requested).task.normalization == ("ct", "zscore")
