"""Confidence intervals: known values, how often they hold, and what holds for any values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from ossnet.evaluation.intervals import ConfidenceInterval, bootstrap_interval, student_interval

VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def test_the_bootstrap_holds_the_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    found = [bootstrap_interval(random.normal(1, 2, 40).tolist(), seed) for seed in range(60)]
    assert 52 <= sum(each.low <= 1.0 <= each.high for each in found) <= 60


def test_the_bootstrap_leans_to_the_side_of_a_skewed_sample() -> None:
    values = np.random.default_rng(0).exponential(size=40)
    found = bootstrap_interval(values.tolist())
    assert found.high - values.mean() > 1.1 * (values.mean() - found.low)


def test_values_without_spread() -> None:
    assert bootstrap_interval([0.5]) == bootstrap_interval([0.5, 0.5]) == ConfidenceInterval(0.5, 0.5)
    with pytest.raises(ValueError, match="one case"):
        bootstrap_interval([])


def test_all_but_equal_values_have_a_finite_interval() -> None:
    values = [0.1, 0.1, np.nextafter(0.1, 1)]
    found = bootstrap_interval(values)
    assert np.isfinite([found.low, found.high]).all()
    assert found.half_width < 1e-15


@settings(max_examples=25, deadline=None)
@given(values=VALUES)
def test_the_bootstrap_lies_within_the_values_and_around_their_mean(values: list[float]) -> None:
    found = bootstrap_interval(values)
    assert min(values) - 1e-12 <= found.low <= np.mean(values) + 1e-12
    assert np.mean(values) - 1e-12 <= found.high <= max(values) + 1e-12


@settings(max_examples=15, deadline=None)
@given(values=st.lists(st.integers(0, 64), min_size=1, max_size=8), shift=st.integers(-8, 8))
def test_the_bootstrap_moves_with_the_values(values: list[int], shift: int) -> None:
    here, there = bootstrap_interval(values), bootstrap_interval([each + shift for each in values])
    assert (there.low, there.high) == pytest.approx((here.low + shift, here.high + shift), abs=1e-9)


@given(values=st.lists(st.integers(-100, 100), min_size=2, max_size=8, unique=True))
def test_seeds_have_the_interval_of_students_test(values: list[int]) -> None:
    found = student_interval(values)
    assert found is not None
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_one_seed_has_no_interval() -> None:
    assert student_interval([0.5]) is None
    assert student_interval([0.5, 0.5]) == ConfidenceInterval(0.5, 0.5)
