"""Plans of studies of limited time: they fit, they use the time, and more time is never worse."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.planning.allocation import allocate

times = st.floats(30.0, 1e6)
slots = st.integers(1, 64)
seconds = st.floats(0.0, 100.0)


@given(times, slots, seconds, seconds, st.none() | st.integers(1, 500), st.booleans())
def test_a_plan_fits_its_time(
    time_s: float, slots: int, step_s: float, validation_s: float, trials: int | None, refit: bool
) -> None:
    plan = allocate(time_s, slots=slots, step_s=step_s, validation_s=validation_s, trials=trials, refit=refit)
    assert plan.search_s + plan.refit_s + plan.closing_s == pytest.approx(time_s)
    assert 1 <= plan.trials <= (trials or 10**9)
    assert 0 < plan.trial_s <= plan.search_s * (1 + 1e-9)
    assert plan.search_s > 0
    assert list(plan.rungs) == sorted(set(plan.rungs))
    assert all(0 < share < 1 for share in plan.rungs)
    validations = (len(plan.rungs) + 1) * validation_s
    assert not plan.rungs or validations <= 0.15 * plan.trial_s + 1e-6
    third, shortest = (time_s - plan.closing_s) / 3, max(250 * step_s, validation_s / 0.15, 20)
    assert plan.refit_s == (pytest.approx(third) if refit and third >= 2 * shortest else 0)


@given(times, slots, st.booleans())
def test_an_ensemble_takes_a_tenth(time_s: float, slots: int, refit: bool) -> None:
    plan = allocate(time_s, slots=slots, refit=refit, ensemble=True)
    assert plan.search_s + plan.refit_s + plan.ensemble_s + plan.closing_s == pytest.approx(time_s)
    assert plan.ensemble_s == pytest.approx(0.1 * (time_s - plan.closing_s))
    assert plan.search_s > 0
    assert "for an ensemble" in str(plan)


@given(times, st.floats(1.0, 10.0), slots, seconds)
def test_more_time_gives_no_fewer_trials_and_no_shorter_ones(
    time_s: float, more: float, slots: int, step_s: float
) -> None:
    less, greater = (
        allocate(each, slots=slots, step_s=step_s, reduction_factor=None) for each in (time_s, time_s * more)
    )
    assert greater.trials >= less.trials
    assert greater.trial_s >= less.trial_s * (1 - 1e-9)


@given(times, slots, st.integers(1, 20))
def test_fewer_trials_get_more_time_each(time_s: float, slots: int, trials: int) -> None:
    free, bounded = (allocate(time_s, slots=slots, trials=each) for each in (None, trials))
    if bounded.trials < free.trials:
        assert bounded.trial_s >= free.trial_s * (1 - 1e-9)
    one = allocate(time_s, slots=slots, trials=1)
    assert one.trial_s == pytest.approx(one.search_s)


def test_two_minutes_and_two_hours_on_two_slots() -> None:
    short = allocate(120.0, slots=2, step_s=0.2, validation_s=0.5, start_s=8.0)
    assert 3 <= short.trials <= 12
    assert 30 <= short.trial_s <= 90
    assert short.rungs
    assert short.rungs[0] <= 0.25
    long = allocate(7200.0, slots=2, step_s=0.2, validation_s=2.0, start_s=8.0)
    assert 40 <= long.trials <= 200
    assert 300 <= long.trial_s <= 900
    assert long.rungs == (0.125, 0.25, 0.5)
    assert str(long).startswith(f"about {long.trials} trials of up to ")


def test_slow_steps_give_few_long_trials() -> None:
    plan = allocate(600.0, slots=1, step_s=5.0, validation_s=60.0)
    assert plan.trials <= 2
    assert plan.trial_s > 300
    assert plan.rungs == ()


def test_a_trial_has_the_steps_that_learning_takes() -> None:
    short, medium, long = (
        allocate(time_s, slots=2, step_s=0.5, validation_s=10.0, start_s=5.0)
        for time_s in (600.0, 1800.0, 36000.0)
    )
    assert [round(plan.trial_s / 0.5, -2) for plan in (short, medium, long)] == [500, 1000, 4300]
    assert short.trials < medium.trials < long.trials


def test_brackets_that_begin_later_cost_more() -> None:
    """Rungs at 12.5, 25 and 50 %: a half of the trials begin at the first, a quarter each at the others."""
    trials = [allocate(36_000.0, slots=4, brackets=brackets).trials for brackets in (1, 2, 3, 9)]
    assert trials[0] > trials[1] > trials[2] == trials[3]
    assert allocate(36_000.0, slots=4).trials == trials[0]
    assert trials[2] > allocate(36_000.0, slots=4, reduction_factor=None).trials
