"""Ranks by several objectives, and the trials that go on from a rung by them: what holds always."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.distributed.tuning.config import EarlyStoppingConfig
from ossnet.distributed.tuning.early_stopping.ranking import crowding_distances, nondominated_ranks, scores
from ossnet.distributed.tuning.early_stopping.rules import LearningCurve, StoppingRule, bracket_of
from ossnet.errors import UserError

Losses = list[tuple[float, ...]]


def losses(objectives: int | None = None) -> st.SearchStrategy[Losses]:
    """A few trials with few different values, so that many are equal, and many dominate others."""
    counts = st.integers(1, 4) if objectives is None else st.just(objectives)
    return counts.flatmap(
        lambda count: st.lists(st.tuples(*[st.integers(0, 5).map(float)] * count), min_size=1, max_size=12)
    )


def dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


@given(losses())
def test_no_dominated_trial_outranks_its_dominator(given_losses: Losses) -> None:
    ranks, found = nondominated_ranks(given_losses), scores(given_losses)
    for position, one in enumerate(given_losses):
        above = [place for place, other in enumerate(given_losses) if dominates(other, one)]
        assert (ranks[position] == 0) == (not above)
        assert all(ranks[place] < ranks[position] and found[place] > found[position] for place in above)
        if above:  # each front is as good as it can be
            assert ranks[position] == 1 + max(ranks[place] for place in above)


@given(losses(), st.randoms(use_true_random=False))
def test_ranks_know_neither_the_order_of_trials_nor_that_of_objectives(
    given_losses: Losses, random: np.random.Generator
) -> None:
    before = scores(given_losses)
    order = list(range(len(given_losses)))
    random.shuffle(order)
    assert scores([given_losses[place] for place in order]) == [before[place] for place in order]
    for one, other in zip(given_losses, before, strict=True):  # equal trials share their score
        assert {score for each, score in zip(given_losses, before, strict=True) if each == one} == {other}
    turned = nondominated_ranks([each[::-1] for each in given_losses])
    assert turned.tolist() == nondominated_ranks(given_losses).tolist()


@given(losses(), st.integers(0, 3), st.floats(0.1, 10), st.floats(-5, 5))
def test_units_do_not_matter(given_losses: Losses, objective: int, scale: float, shift: float) -> None:
    """GiB or MiB, seconds or hours: only the order of an objective's values says who is on which front."""
    place = objective % len(given_losses[0])
    other = [
        tuple(value * scale + shift if at == place else value for at, value in enumerate(each))
        for each in given_losses
    ]
    assert nondominated_ranks(other).tolist() == nondominated_ranks(given_losses).tolist()
    assert crowding_distances(other) == pytest.approx(crowding_distances(given_losses))


def rule(
    dice: Sequence[float], costs: Sequence[tuple[float, ...]], algorithm: str = "asha", factor: int = 2
) -> StoppingRule:
    """A rule that has seen trials at epoch 2, numbered from 0."""
    config = EarlyStoppingConfig(algorithm=algorithm, reduction_factor=factor)  # type: ignore[arg-type]
    history = {
        number: LearningCurve({2: each}, cost)
        for number, (each, cost) in enumerate(zip(dice, costs, strict=True))
    }
    return StoppingRule(config, first_rung=2, end=16, history=history)


FEW_VALUES = st.sampled_from([0.0, 0.25, 0.5]) | st.floats(0, 1)


@given(st.lists(FEW_VALUES, max_size=12), FEW_VALUES, st.integers(2, 4))
def test_a_single_objective_is_compared_by_the_percentile(dice: list[float], own: float, factor: int) -> None:
    """But the last ones never go on where one is better, as where most have a Dice of 0 yet."""
    behind = bool(dice) and own < float(np.percentile(dice, (1 - 1 / factor) * 100))
    expected = behind or (bool(dice) and own <= min(dice) < max(dice))
    assert rule(dice, [()] * len(dice), factor=factor).should_stop(99, 2, own) == expected


@given(st.lists(st.integers(0, 20), unique=True, min_size=2, max_size=12), st.integers(2, 4))
def test_a_second_objective_in_which_all_are_the_same_changes_nothing_at_a_rung(
    values: list[int], factor: int
) -> None:
    """But for places between the two values that a percentile lies between: there the trial goes on."""
    *dice, own = (value / 20 for value in values)
    alone = rule(dice, [()] * len(dice), factor=factor).should_stop(99, 2, own)
    beside = rule(dice, [(1.0,)] * len(dice), factor=factor).should_stop(99, 2, own, (1.0,))
    if (len(dice) - 1) * (1 - 1 / factor) % 1 == 0:
        assert alone == beside


@pytest.mark.parametrize("algorithm", ["asha", "median"])
@given(losses(3))
def test_none_on_the_front_is_stopped(algorithm: str, given_losses: Losses) -> None:
    (own_loss, *own_costs), *others = given_losses
    dice = [1 - each[0] / 5 for each in others]
    compared = rule(dice, [each[1:] for each in others], algorithm, factor=4)
    stopped = compared.should_stop(99, 2, 1 - own_loss / 5, tuple(own_costs))
    if not any(dominates(each, given_losses[0]) for each in others):
        assert not stopped


def test_of_two_equally_good_trials_the_small_one_goes_on() -> None:
    """Dice, and memory in GiB: by Dice alone the second would be stopped, and the fourth would not."""
    seen = rule([0.8, 0.75, 0.7], [(4.0,), (2.0,), (1.0,)])
    assert not seen.should_stop(3, 2, 0.6, (0.5,))  # the smallest so far: on the front
    assert seen.should_stop(4, 2, 0.72, (3.0,))  # another has more Dice with less memory
    assert rule([0.8, 0.75, 0.7], [()] * 3).should_stop(3, 2, 0.6)


def test_costs_stay_those_of_the_first_validation() -> None:
    compared = rule([], [])
    compared.add(0, 2, 0.5, (1.0, 2.0))
    compared.add(0, 4, 0.6, (9.0, 9.0))
    assert compared.should_stop(1, 4, 0.55, (1.0, 2.0))
    assert not compared.should_stop(1, 4, 0.55, (0.9, 2.0))


def test_brackets_begin_at_different_rungs_and_grow_together() -> None:
    """Of 64 trials a half, a quarter and a quarter; and of any few in a row about so many."""
    brackets = [bracket_of(number, reduction_factor=2, brackets=3) for number in range(64)]
    assert brackets[:8] == [0, 1, 0, 2, 0, 1, 0, 2]
    assert [brackets.count(bracket) for bracket in range(3)] == [32, 16, 16]
    assert {bracket_of(number, reduction_factor=3, brackets=1) for number in range(20)} == {0}
    thirds = [bracket_of(number, reduction_factor=3, brackets=3) for number in range(27)]
    assert [thirds.count(bracket) for bracket in range(3)] == [18, 6, 3]


def test_a_trial_is_compared_in_its_bracket_only() -> None:
    """Trials 0, 2, 4 are in the first, 1 and 5 in the second, whose first rung is at epoch 4, 3 and 7 in the
    third, from epoch 8 on."""
    config = EarlyStoppingConfig(algorithm="hyperband")
    hyperband = StoppingRule(config, first_rung=2, end=16, history={})

    def come(number: int, epoch: int, dice: float) -> bool:
        stop = hyperband.should_stop(number, epoch, dice)
        hyperband.add(number, epoch, dice)
        return stop

    assert not come(0, 2, 0.9)
    assert come(2, 2, 0.5)
    assert not any(come(number, 2, 0.1) for number in (1, 5, 3, 7))
    assert not come(1, 4, 0.4)
    assert come(5, 4, 0.3)  # behind trial 1
    assert not any(come(number, 4, 0.1) for number in (3, 7))
    assert not come(3, 8, 0.3)
    assert come(7, 8, 0.2)
    assert not come(0, 8, 0.0)  # the first of its bracket there


def test_brackets_that_would_begin_at_the_end_are_left_out() -> None:
    """With rungs at epochs 2 and 4 of 8 there is no third bracket, whose trials nothing would stop."""
    seen = {number: LearningCurve({4: 0.9}) for number in range(1, 16, 2)}
    config = EarlyStoppingConfig(algorithm="hyperband")
    assert StoppingRule(config, first_rung=2, end=8, history=seen).should_stop(19, 4, 0.1)
    assert not StoppingRule(config, first_rung=2, end=9, history=seen).should_stop(19, 4, 0.1)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 8), st.integers(0, 9)), max_size=40),
    st.integers(0, 40),
)
def test_a_session_that_ends_changes_no_decision(
    reports: list[tuple[int, int, int]], left_after: int
) -> None:
    """By its history a new rule decides as one that saw all of it."""
    config = EarlyStoppingConfig(algorithm="hyperband")
    whole = StoppingRule(config, first_rung=1, end=8, history={})
    session, history = whole, dict[int, LearningCurve]()
    for position, (number, epoch, dice) in enumerate(reports):
        if position == left_after:
            session = StoppingRule(config, first_rung=1, end=8, history=history)
        cost = (float(number % 3),)
        assert session.should_stop(number, epoch, dice, cost) == whole.should_stop(number, epoch, dice, cost)
        for each in {id(rule): rule for rule in (session, whole)}.values():
            each.add(number, epoch, dice, cost)
        history.setdefault(number, LearningCurve({}, cost)).dice.setdefault(epoch, dice)


@pytest.mark.parametrize(("option", "value"), [("reduction_factor", 1), ("brackets", 0), ("grace_period", 0)])
def test_rungs_that_are_none_are_refused(option: str, value: int) -> None:
    with pytest.raises(UserError, match=rf"{option}: expected at least {value + 1}, found {value}"):
        EarlyStoppingConfig(**{option: value})
