import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.data.splits import check_splits, make_splits
from ossnet.errors import UserError


def singles(count: int) -> dict[str, str]:
    return {f"case_{number:03d}": f"case_{number:03d}" for number in range(count)}


def test_two_hundred_cases_split_160_to_40():
    splits = make_splits(singles(200), validation_share=0.2, test_share=0.0, seed=0)
    assert {name: len(cases) for name, cases in splits.items()} == {
        "training": 160,
        "validation": 40,
        "test": 0,
    }


def test_the_seed_decides():
    def validation(seed: int) -> tuple[str, ...]:
        return make_splits(singles(50), validation_share=0.2, test_share=0.2, seed=seed)["validation"]

    assert validation(3) == validation(3)
    assert validation(3) != validation(4)


def test_a_new_case_moves_few_others():
    before = make_splits(singles(100), validation_share=0.2, test_share=0.0, seed=0)["validation"]
    after = make_splits(singles(101), validation_share=0.2, test_share=0.0, seed=0)["validation"]
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
    splits = make_splits(groups, validation_share=validation, test_share=test, seed=seed)
    check_splits(splits, groups)
    assert sorted(case for cases in splits.values() for case in cases) == sorted(groups)
    assert splits["training"]
    wanted = 1 + (validation > 0) + (test > 0)
    if len(sizes) >= wanted:
        assert bool(splits["validation"]) == (validation > 0)
        assert bool(splits["test"]) == (test > 0)


@given(count=st.integers(3, 120), validation=st.floats(0.01, 0.45), test=st.floats(0.01, 0.45))
def test_counts_are_exact_where_every_case_is_a_group(count, validation, test):
    splits = make_splits(singles(count), validation_share=validation, test_share=test, seed=1)
    assert len(splits["test"]) == max(1, min(round(test * count), count - 2))
    assert len(splits["validation"]) == max(
        1, min(round(validation * count), count - len(splits["test"]) - 1)
    )


def test_a_shared_group_is_refused():
    groups = {"a_1": "a", "a_2": "a", "b": "b"}
    with pytest.raises(UserError, match="group 'a' is in the training and in the validation split"):
        check_splits({"training": ("a_1", "b"), "validation": ("a_2",)}, groups)


@pytest.mark.parametrize(("validation", "test"), [(0.6, 0.4), (-0.1, 0.0), (1.0, 0.0)])
def test_impossible_shares_are_refused(validation, test):
    with pytest.raises(UserError, match="shares from 0 that add to less than 1"):
        make_splits(singles(4), validation_share=validation, test_share=test, seed=0)
