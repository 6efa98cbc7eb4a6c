"""The clock of a run, on a clock of its own: it ends in time to validate and to save."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.output.duration import format_duration
from ossnet.training.clock import Clock, Pace, format_pace


@dataclass(frozen=True)
class Limits:
    epochs: int = 10**9
    max_time_s: float | None = 120.0
    validate_at: tuple[float, ...] = ()


class Time:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def simulate(
    time: Time, clock: Clock, *, step_s: float, case_s: float, save_s: float, steps: int = 100_000
) -> list[float]:
    """Run a loop of epochs of a step each, as the trainer does; the shares at which it validates. It ends
    with a validation."""
    shares = list[float]()
    for step in range(1, steps + 1):
        time.seconds += step_s
        clock.step(step_s)
        if clock.must_measure():
            time.seconds += case_s
            clock.measured(case_s)
        final, share = step == steps or clock.must_end(), max(clock.share, step / steps)
        if final or clock.validation_due(share, run_s=steps * step_s):
            until = clock.validate_until
            assert until is not None
            for case in range(clock.cases):
                if case and time.seconds + case_s > until.last:
                    break
                time.seconds += case_s
            shares.append(1.0 if final else share)
            clock.validated(case_s, step / steps)
            time.seconds += save_s
            clock.saved(save_s)
        if final:
            return shares
    raise AssertionError("it never ended")


@given(
    limit_s=st.floats(60.0, 900.0),
    step_s=st.floats(0.1, 6.0),
    case_s=st.floats(0.01, 6.0),
    cases=st.integers(1, 200),
    save_s=st.floats(0.01, 2.0),
)
def test_a_run_uses_its_time_and_no_more(
    limit_s: float, step_s: float, case_s: float, cases: int, save_s: float
) -> None:
    time = Time()
    clock = Clock(Limits(max_time_s=limit_s), elapsed_s=0.0, cases=cases, now=time)
    shares = simulate(time, clock, step_s=step_s, case_s=case_s, save_s=save_s)
    took = time.seconds - 1000
    assert took <= limit_s + 2 * case_s + 2 * save_s + step_s
    assert took >= 0.6 * limit_s
    assert shares[-1] == 1
    assert len(shares) <= 11
    if cases * case_s < 0.03 * limit_s and step_s + case_s < 0.02 * limit_s:
        assert len(shares) >= 3
        assert shares[0] <= 0.3


def test_the_learning_rate_reaches_its_end_with_the_last_step() -> None:
    time = Time()
    clock = Clock(Limits(), elapsed_s=0.0, cases=10, now=time)
    seen = list[float]()
    while not seen or not clock.must_end():
        time.seconds += 1.0
        clock.step(1.0)
        if clock.must_measure():
            time.seconds += 1.0
            clock.measured(1.0)
        seen.append(clock.share)
    assert seen == sorted(seen)
    assert seen[-1] > 0.97


def test_a_resumed_run_has_what_is_left() -> None:
    time = Time()
    clock = Clock(Limits(), elapsed_s=90.0, cases=4, pace=Pace(1.0, 2.0), now=time)
    assert clock.remaining_s == 30
    assert clock.closing_s == pytest.approx(4 * 2 * 1.3 + 2 + 1)
    assert clock.share == pytest.approx(90 / (120 - clock.closing_s))
    assert not clock.must_end()
    time.seconds += 25
    assert clock.must_end()
    assert not clock.must_measure()


def test_only_a_nearer_deadline_cuts_a_run_short() -> None:
    import time as real

    far, near = (
        Clock(Limits(max_time_s=100.0), elapsed_s=0.0, cases=1, deadline=real.time() + seconds)
        for seconds in (200, 50)
    )
    assert (far.cut_short, near.cut_short) == (False, True)
    assert near.total_s == pytest.approx(50, abs=1)
    free = Clock(Limits(max_time_s=None), elapsed_s=0.0, cases=1)
    assert not free.must_end()
    assert free.validate_until is None


def test_given_shares_are_when_it_validates() -> None:
    time = Time()
    limits = Limits(validate_at=(0.25, 0.5))
    shares = simulate(
        time, Clock(limits, elapsed_s=0.0, cases=2, now=time), step_s=0.5, case_s=0.1, save_s=0.1
    )
    assert shares == [pytest.approx(0.25, abs=0.02), pytest.approx(0.5, abs=0.02), 1.0]


@pytest.mark.parametrize("given", [(), (0.25, 0.5)])
def test_epochs_that_end_before_the_time_are_validated_as_often(given: tuple[float, ...]) -> None:
    time = Time()
    clock = Clock(Limits(max_time_s=3600.0, validate_at=given), elapsed_s=0.0, cases=2, now=time)
    shares = simulate(time, clock, step_s=1.0, case_s=0.1, save_s=0.1, steps=100)
    assert time.seconds < 1200
    expected = [*given, 1.0] if given else [0.2 + 0.8 * number / 9 for number in range(10)]
    assert shares == pytest.approx(expected, abs=0.02)


def test_a_resumed_run_is_not_validated_again() -> None:
    time = Time()
    clock = Clock(Limits(validate_at=(0.5,)), elapsed_s=5.0, cases=2, pace=Pace(1.0, 1.0), done=0.6, now=time)
    assert not clock.validation_due(0.6)


def test_a_pace_is_one_line() -> None:
    pace = {"step_s": 4.0, "epoch_s": 80.0, "validation_s": 30.0}
    limits = Limits(epochs=50, max_time_s=1200.0)
    line = "a step 4 s, an epoch 80 s, validation 30 s"
    assert format_pace(**pace, fitting=12.2, limits=limits) == f"{line}; 12 of 50 epochs fit in 20 min"
    assert format_pace(**pace, fitting=60.0, limits=limits) == f"{line}; all 50 epochs fit in 20 min"
    many = Limits(max_time_s=1200.0)
    assert format_pace(**pace, fitting=0.31, limits=many) == f"{line}; 0.3 epochs fit in 20 min"
    free = Limits(epochs=50, max_time_s=None)
    without = {**pace, "validation_s": None}
    text = "a step 4 s, an epoch 80 s; 50 epochs take 67 min and their validations"
    assert format_pace(**without, fitting=None, limits=free) == text  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0314, "0.031 s"), (4.0, "4 s"), (80.4, "80 s"), (1200, "20 min"), (12_000, "3 h 20 min")],
)
def test_durations_are_said_as_people_do(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_what_would_do_counts_the_time_before_the_training_too() -> None:
    """Of 90 s the start took 85: a step of 3 s and its end want 6."""
    time = Time()
    clock = Clock(Limits(max_time_s=90.0), elapsed_s=0.0, cases=1, now=time)
    time.seconds += 85
    error = str(clock.too_short("a step of 3 s", 6.0))
    assert error.startswith("time limit of 90 s: expected time for one step and one validated case")
    assert "found a step of 3 s; give at least 91 s" in error
