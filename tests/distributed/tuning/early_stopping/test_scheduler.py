"""Which trials continue: the rungs of successive halving and the median rule, also after a restart."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState
from ray.tune.schedulers import TrialScheduler

from ossnet.distributed._optuna import set_intermediate_value
from ossnet.distributed.tuning.config import EarlyStoppingConfig, OptimizationConfig
from ossnet.distributed.tuning.early_stopping.rules import LearningCurve
from ossnet.distributed.tuning.early_stopping.scheduler import EarlyStoppingScheduler, learning_curves
from ossnet.distributed.tuning.monitor import TrialMonitor
from ossnet.distributed.tuning.storage import END, TuningStudy
from ossnet.distributed.tuning.trial import TrialEnd, TrialSpec
from ossnet.metric_names import CASE_MEDIAN, MEMORY

STOP, ON = TrialScheduler.STOP, TrialScheduler.CONTINUE


def make_scheduler(
    algorithm: Any = "asha",
    history: dict[int, dict[int, float]] | None = None,
    objectives: tuple[str, ...] = ("dice",),
) -> EarlyStoppingScheduler:
    return EarlyStoppingScheduler(
        EarlyStoppingConfig(algorithm=algorithm),
        TrialMonitor(budget_gib=1.0),
        objectives=objectives,
        first_validation=2,
        epochs=16,
        history={number: LearningCurve(curve) for number, curve in (history or {}).items()},
    )


def report(
    scheduler: EarlyStoppingScheduler,
    number: int,
    epoch: int,
    dice: float | None,
    *,
    seed: int = 0,
    gib: float = 0.5,
) -> str:
    spec = TrialSpec("{}", run="r", number=number, seed=seed, seeds=2, params={})
    trial: Any = SimpleNamespace(trial_id=f"{number}-{seed}", config=spec.to_dict())
    result: dict[str, Any] = {"epoch": epoch, MEMORY: gib} | ({} if dice is None else {"dice/val": dice})
    return scheduler.on_trial_result(None, trial, result)


def test_the_worse_half_of_a_rung_is_stopped() -> None:
    """Rungs lie at epochs 2, 4, 8."""
    scheduler = make_scheduler()
    assert report(scheduler, 0, 1, 0.0) == ON  # before the first rung
    assert report(scheduler, 0, 2, 0.5) == ON  # the first to come there
    assert report(scheduler, 1, 2, 0.4) == STOP
    assert report(scheduler, 2, 2, 0.6) == ON
    assert report(scheduler, 2, 3, 0.0) == ON  # it was allowed to continue until the next rung
    assert report(scheduler, 0, 4, 0.7) == ON
    assert report(scheduler, 2, 4, 0.6) == STOP


def test_a_history_counts_as_what_was_reported() -> None:
    history = {0: {2: 0.5, 4: 0.7}, 1: {2: 0.4}, 2: {2: 0.6}}
    scheduler = make_scheduler(history=history)
    assert report(scheduler, 2, 2, 0.1) == ON  # trained again since its last checkpoint
    assert report(scheduler, 2, 4, 0.6) == STOP
    assert report(scheduler, 3, 2, 0.4) == STOP
    assert report(scheduler, 4, 2, 0.55) == ON


def test_the_median_of_the_others() -> None:
    scheduler = make_scheduler(
        "median", {number: {2: dice, 4: dice} for number, dice in enumerate((0.2, 0.4, 0.6))}
    )
    assert report(scheduler, 3, 2, 0.3) == STOP
    assert report(scheduler, 4, 2, 0.5) == ON
    assert report(scheduler, 4, 4, 0.1) == ON  # its best counts
    assert report(make_scheduler("median", {0: {2: 0.9}}), 1, 2, 0.0) == ON  # too few to compare with


@pytest.mark.parametrize("algorithm", ["asha", "median", "none"])
def test_memory_above_the_budget_and_further_seeds(algorithm: str) -> None:
    scheduler = make_scheduler(algorithm, {number: {2: 0.9} for number in range(5)})
    assert report(scheduler, 5, 2, 0.1, seed=1) == ON
    assert report(scheduler, 5, 1, None, gib=1.01) == STOP
    assert report(scheduler, 6, 2, 0.1) == (ON if algorithm == "none" else STOP)


@pytest.mark.parametrize("algorithm", ["asha", "hyperband", "median"])
def test_none_with_less_memory_than_all_others_is_stopped(algorithm: str) -> None:
    """Trials 0, 2, 4 and 6 are in one bracket; by Dice alone each but the first would be stopped."""
    one, two = (make_scheduler(algorithm, objectives=names) for names in (("dice",), ("dice", "memory")))
    stopped = {True: list[int](), False: list[int]()}
    for position, gib in enumerate((0.9, 0.7, 0.5, 0.3)):
        dice = 0.8 - position / 10
        for scheduler in (one, two):
            if report(scheduler, 2 * position, 2, dice, gib=gib) == STOP:
                stopped[scheduler is two].append(2 * position)
    assert stopped == {True: [], False: [6] if algorithm == "median" else [2, 4, 6]}
    assert report(two, 8, 2, 0.45, gib=0.6) == STOP  # more memory and less Dice than trial 4


def test_a_study_goes_on_from_what_its_trials_came_to(tmp_path: Path) -> None:
    """Their curves and costs are in its file; what a measurement ended was compared with none."""
    optimization = OptimizationConfig(objectives=("dice", "memory", "seconds"))
    study = TuningStudy.open_or_create(tmp_path / "study.db", "mine", optimization)
    for end in (TrialEnd.STOPPED_EARLY, TrialEnd.TOO_SLOW, None):
        trial = study.ask()
        set_intermediate_value(trial, 2, 0.5)
        trial.set_user_attr(MEMORY, 0.25)
        if end is not None:
            trial.set_user_attr(CASE_MEDIAN, 1.5)
            trial.set_user_attr(END, end)
            study.tell(trial, state=TrialState.PRUNED)
    study.ask()  # it was not validated yet
    assert learning_curves(study) == {
        0: LearningCurve({2: 0.5}, (0.25, 1.5)),
        2: LearningCurve({2: 0.5}, (0.25, float("inf"))),
    }
