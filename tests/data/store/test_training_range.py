"""What of a scan is unlike the training data, and splits that say little."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ossnet.data import Store
from ossnet.data.imaging.preprocessing import Scan, preprocess
from ossnet.data.layouts import read_source
from ossnet.data.store.split_warnings import split_warnings
from ossnet.data.store.training_range import TRAINING_RANGE, Range, TrainingRange


@pytest.fixture(scope="module")
def store(phantom_store: Path) -> Store:
    return Store.open(phantom_store)


@pytest.fixture(scope="module")
def phantom_source(store: Store) -> Path:
    return Path(store.manifest.configuration["source"])


def a_scan(store: Store, phantom_source: Path) -> Scan:
    return preprocess(read_source(phantom_source).cases[0].images, store.task)


def test_a_training_case_is_like_itself(store: Store, phantom_source: Path, tmp_path: Path) -> None:
    known = TrainingRange.of(store)
    (tmp_path / TRAINING_RANGE).write_text(known.to_json())
    assert TrainingRange.read(tmp_path) == known
    assert known.differences(a_scan(store, phantom_source)) == ()


def test_a_checkpoint_of_before_says_nothing(tmp_path: Path) -> None:
    assert TrainingRange.read(tmp_path) is None


def test_other_intensities_spacings_and_extents_are_named(store: Store, phantom_source: Path) -> None:
    known, scan = TrainingRange.of(store), a_scan(store, phantom_source)
    bright = replace(scan, means=(scan.means[0] * 50, *scan.means[1:]))
    (clause,) = known.differences(bright)
    assert clause.startswith(f"mean {store.task.modalities[0]} ")
    thick = replace(known, spacing_mm=tuple(Range(each.low / 4, each.high / 4) for each in known.spacing_mm))
    assert [each.split(" (")[0] for each in thick.differences(scan)] == [
        f"spacing 1 mm {axis}" for axis in ("left to right", "back to front", "foot to head")
    ]
    small = replace(known, extent_mm=(Range(1.0, 2.0), *known.extent_mm[1:]))
    (clause,) = small.differences(scan)
    assert clause.endswith("left to right (trained on 1 to 2)")


@pytest.mark.parametrize(("mean", "inside"), [(40.0, True), (-60.0, True), (1064.0, False), (-400.0, False)])
def test_intensities_may_be_negative(mean: float, inside: bool) -> None:
    assert Range(-20.0, 60.0).holds_mean(mean) == inside


def test_the_mean_is_that_of_what_is_not_zero(store: Store, phantom_source: Path) -> None:
    case = read_source(phantom_source).cases[0]
    scan, statistics = a_scan(store, phantom_source), store.manifest.cases[case.id].statistics
    np.testing.assert_allclose(scan.means, [each.mean for each in statistics.intensities], rtol=1e-3)


@pytest.mark.parametrize(
    ("training", "validation", "words"),
    [
        (8, 2, []),
        (1, 2, ["expected several training cases, found 1"]),
        (8, 0, ["expected validation cases, found none"]),
        (1, 1, ["expected several training cases, found 1", "expected several validation cases, found 1"]),
    ],
)
def test_splits_that_say_little(store: Store, training: int, validation: int, words: list[str]) -> None:
    cases = list(store.manifest.cases)
    splits = {
        "training": tuple(cases[:training]),
        "validation": tuple(cases[8 : 8 + validation]),
        "test": (),
    }
    found = split_warnings(Store(store.root, replace(store.manifest, splits=splits)))
    assert [str(each).split(": ", 1)[1].split(";")[0] for each in found] == words
