import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.data.store.splits import check_splits, find_strata, make_folds, make_splits, read_splits
from ossnet.errors import UserError


def singles(count: int) -> dict[str, str]:
    return {f"case_{number:03d}": f"case_{number:03d}" for number in range(count)}


def test_two_hundred_cases_split_160_to_40():
    splits = make_splits(singles(200), validation_fraction=0.2, test_fraction=0.0, seed=0)
    assert {name: len(cases) for name, cases in splits.items()} == {
        "training": 160,
        "validation": 40,
        "test": 0,
    }


def test_the_seed_decides():
    def validation(seed: int) -> tuple[str, ...]:
        return make_splits(singles(50), validation_fraction=0.2, test_fraction=0.2, seed=seed)["validation"]

    assert validation(3) == validation(3)
    assert validation(3) != validation(4)


def test_a_new_case_moves_few_others():
    before = make_splits(singles(100), validation_fraction=0.2, test_fraction=0.0, seed=0)["validation"]
    after = make_splits(singles(101), validation_fraction=0.2, test_fraction=0.0, seed=0)["validation"]
    assert len(set(before) - set(after)) <= 1


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=30),
    validation=st.floats(0, 0.45),
    test=st.floats(0, 0.45),
    seed=st.integers(0, 5),
)
def test_groups_stay_together_and_no_case_is_lost(sizes, validation, test, seed):
    groups = {
        f"{group}_{scan}": f"patient_{group}" for group, size in enumerate(sizes) for scan in range(size)
    }
    splits = make_splits(groups, validation_fraction=validation, test_fraction=test, seed=seed)
    check_splits(splits, groups, where=Path("splits.json"))
    assert sorted(case for cases in splits.values() for case in cases) == sorted(groups)
    assert splits["training"]
    wanted = 1 + (validation > 0) + (test > 0)
    if len(sizes) >= wanted:
        assert bool(splits["validation"]) == (validation > 0)
        assert bool(splits["test"]) == (test > 0)


@given(count=st.integers(3, 120), validation=st.floats(0.01, 0.45), test=st.floats(0.01, 0.45))
def test_counts_are_exact_where_every_case_is_a_group(count, validation, test):
    splits = make_splits(singles(count), validation_fraction=validation, test_fraction=test, seed=1)
    assert len(splits["test"]) == max(1, min(round(test * count), count - 2))
    assert len(splits["validation"]) == max(
        1, min(round(validation * count), count - len(splits["test"]) - 1)
    )


def test_a_shared_group_is_rejected():
    groups = {"a_1": "a", "a_2": "a", "b": "b"}
    with pytest.raises(
        UserError,
        match="expected group 'a' in one split, found it in the training and in the validation split",
    ):
        check_splits({"training": ("a_1", "b"), "validation": ("a_2",)}, groups, where=Path("splits.json"))


@pytest.mark.parametrize(("validation", "test"), [(0.6, 0.4), (-0.1, 0.0), (1.0, 0.0)])
def test_impossible_fractions_are_rejected(validation, test):
    with pytest.raises(UserError, match="expected fractions from 0 that add to less than 1"):
        make_splits(singles(4), validation_fraction=validation, test_fraction=test, seed=0)


def test_rare_cases_come_into_every_split_in_proportion():
    groups = singles(100)
    strata = {group: "rare" if number % 10 == 0 else "common" for number, group in enumerate(groups)}
    for seed in range(20):
        splits = make_splits(groups, validation_fraction=0.2, test_fraction=0.1, seed=seed, strata=strata)
        assert {name: len(cases) for name, cases in splits.items()} == {
            "training": 70,
            "validation": 20,
            "test": 10,
        }
        rare = {name: sum(strata[case] == "rare" for case in cases) for name, cases in splits.items()}
        assert rare == {"training": 7, "validation": 2, "test": 1}


@given(
    kinds=st.lists(st.integers(0, 6), min_size=4, max_size=60),
    validation=st.floats(0.05, 0.45),
    test=st.floats(0.05, 0.45),
    seed=st.integers(0, 5),
)
def test_each_stratum_is_shared_within_a_case(kinds, validation, test, seed):
    groups = singles(len(kinds))
    strata = {group: str(kind) for group, kind in zip(groups, kinds, strict=True)}
    splits = make_splits(groups, validation_fraction=validation, test_fraction=test, seed=seed, strata=strata)
    for kind in set(strata.values()):
        members = [case for case in groups if strata[case] == kind]
        found = sum(case in members for case in splits["test"])
        assert abs(found - len(splits["test"]) * len(members) / len(groups)) < 1


def test_strata_move_few_cases_when_one_comes():
    def validation(count: int) -> set[str]:
        groups = singles(count)
        strata = {group: str(number % 7) for number, group in enumerate(groups)}
        return set(
            make_splits(groups, validation_fraction=0.2, test_fraction=0, seed=0, strata=strata)["validation"]
        )

    for count in range(60, 100):
        assert len(validation(count) - validation(count + 1)) <= 2


def test_a_stratum_is_the_classes_and_the_magnitude_of_a_patient():
    groups = {"a_1": "a", "a_2": "a", "b": "b", "c": "c", "d": "d"}
    volumes = {"a_1": (900, 0), "a_2": (700, 300), "b": (950, 9), "c": (90, 9), "d": (0, 0)}
    strata = find_strata(groups, volumes)
    assert strata == {"a": "11/2", "b": "11/2", "c": "11/1", "d": "00"}


@given(
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=30),
    folds=st.integers(2, 6),
    seed=st.integers(0, 5),
)
def test_folds_keep_groups_and_hold_every_case_once(sizes, folds, seed):
    groups = {
        f"{group}_{scan}": f"patient_{group}" for group, size in enumerate(sizes) for scan in range(size)
    }
    strata = {f"patient_{group}": str(group % 3) for group in range(len(sizes))}
    if folds > len(sizes):
        with pytest.raises(UserError, match=r"expected at most \d+, one a group"):
            make_folds(groups, folds=folds, seed=seed, strata=strata)
        return
    parts = make_folds(groups, folds=folds, seed=seed, strata=strata)
    assert len(parts) == folds
    assert all(parts)
    assert sorted(case for part in parts for case in part) == sorted(groups)
    check_splits({str(number): part for number, part in enumerate(parts)}, groups, where=Path("splits.json"))


@given(count=st.integers(5, 60), folds=st.integers(2, 5))
def test_folds_of_single_cases_are_of_one_size(count, folds):
    sizes = [len(part) for part in make_folds(singles(count), folds=folds, seed=0)]
    assert max(sizes) - min(sizes) <= 1


GROUPS = {"a_1": "a", "a_2": "a", "b": "b", "c": "c"}


@pytest.mark.parametrize("form", ["json", "csv"])
def test_splits_are_read_as_given(tmp_path, form):
    given = {"a_1": "training", "a_2": "training", "b": "validation", "c": "test"}
    path = tmp_path / f"splits.{form}"
    rows = "".join(f"{case},{split}\n" for case, split in given.items())
    path.write_text(json.dumps(given) if form == "json" else f"case,split\n{rows}")
    assert read_splits(path, GROUPS) == given


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '{"a_1": "training", "a_2": "test", "b": "test", "c": "test"}',
            "expected group 'a' in one split, found it in the training and in the",
        ),
        (
            '{"a_1": "training", "a_2": "training", "b": "test"}',
            "expected a split for every case, found none for c",
        ),
        ('{"a_3": "training"}', "expected a known case, found 'a_3'; did you mean 'a_2'"),
        ('{"a_1": "trainin"}', "expected a known split, found 'trainin'; did you mean 'training'"),
        (
            '{"a_1": "training", "a_1": "test"}',
            "expected case 'a_1' in one split, found it in the training and in the test split",
        ),
        ('["a_1"]', 'expected {"case": "training", ...} or a CSV table'),
        ("case", 'expected {"case": "training", ...} or a CSV table'),
    ],
)
def test_splits_that_cannot_be_are_reported(tmp_path, text, expected):
    path = tmp_path / "splits.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_splits(path, GROUPS)
    assert str(caught.value).startswith(f"{path}: ")
    assert expected in str(caught.value)


def test_a_table_without_its_columns_is_reported(tmp_path):
    (tmp_path / "splits.csv").write_text("id,fold\na_1,training\n")
    with pytest.raises(UserError, match="a CSV table with the columns case and split"):
        read_splits(tmp_path / "splits.csv", GROUPS)
    with pytest.raises(UserError, match=r"nowhere\.csv"):
        read_splits(tmp_path / "nowhere.csv", GROUPS)
