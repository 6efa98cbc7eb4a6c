"""Who goes on: the rungs of successive halving and the median rule, also after a restart."""

from types import SimpleNamespace
from typing import Any

import pytest
from ossnet.distributed.tuning.early_stopping import EarlyStoppingConfig
from ray.tune.schedulers import TrialScheduler

from ossnet.distributed.cluster.oom_patch import HostOOMMonitor
from ossnet.distributed.tuning.scheduler import EarlyStoppingScheduler
from ossnet.metric_names import MEMORY

STOP, ON = TrialScheduler.STOP, TrialScheduler.CONTINUE


def judge(rule: Any = "asha", history: dict[int, dict[int, float]] | None = None) -> EarlyStoppingScheduler:
    return EarlyStoppingScheduler(
        EarlyStoppingConfig(algorithm=rule),
        first=2,
        history=history or {},
        budget_gib=1.0,
        kills=HostOOMMonitor(),
    )


def say(
    to: EarlyStoppingScheduler,
    number: int,
    epoch: int,
    dice: float | None,
    *,
    seed: int = 0,
    gib: float = 0.5,
) -> str:
    trial: Any = SimpleNamespace(config={"number": number, "seed": seed})
    result: dict[str, Any] = {"epoch": epoch, MEMORY: gib} | ({} if dice is None else {"dice/val": dice})
    return to.on_trial_result(None, trial, result)


def test_the_worse_half_of_a_rung_is_stopped() -> None:
    """Rungs lie at epochs 2, 4, 8."""
    judged = judge()
    assert say(judged, 0, 1, 0.0) == ON  # before the first rung
    assert say(judged, 0, 2, 0.5) == ON  # the first to come there
    assert say(judged, 1, 2, 0.4) == STOP
    assert say(judged, 2, 2, 0.6) == ON
    assert say(judged, 2, 3, 0.0) == ON  # it was let go on until the next rung
    assert say(judged, 0, 4, 0.7) == ON
    assert say(judged, 2, 4, 0.6) == STOP


def test_a_history_judges_as_what_was_seen() -> None:
    seen = {0: {2: 0.5, 4: 0.7}, 1: {2: 0.4}, 2: {2: 0.6}}
    judged = judge(history=seen)
    assert say(judged, 2, 2, 0.1) == ON  # trained again since its last checkpoint
    assert say(judged, 2, 4, 0.6) == STOP
    assert say(judged, 3, 2, 0.4) == STOP
    assert say(judged, 4, 2, 0.55) == ON


def test_the_median_of_the_others() -> None:
    judged = judge("median", {number: {2: dice, 4: dice} for number, dice in enumerate((0.2, 0.4, 0.6))})
    assert say(judged, 3, 2, 0.3) == STOP
    assert say(judged, 4, 2, 0.5) == ON
    assert say(judged, 4, 4, 0.1) == ON  # its best counts
    assert say(judge("median", {0: {2: 0.9}}), 1, 2, 0.0) == ON  # too few to compare with


@pytest.mark.parametrize("rule", ["asha", "median", "none"])
def test_memory_above_the_budget_and_further_seeds(rule: str) -> None:
    judged = judge(rule, {number: {2: 0.9} for number in range(5)})
    assert say(judged, 5, 2, 0.1, seed=1) == ON
    assert say(judged, 5, 1, None, gib=1.01) == STOP
    assert say(judged, 6, 2, 0.1) == (ON if rule == "none" else STOP)
