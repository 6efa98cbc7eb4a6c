"""Optuna's sampler with a constraint, or random search, with ASHA: as in the documentation of Ray and Optuna.

https://docs.ray.io/en/latest/tune/examples/optuna_example.html, with the scheduler of its page on ASHA;
https://optuna.readthedocs.io/en/stable/faq.html on constraints.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import optuna
from ray.tune.result import TRAINING_ITERATION
from ray.tune.schedulers import ASHAScheduler, TrialScheduler
from ray.tune.search import Searcher

from ossnet.config import Config
from ossnet.distributed.benchmark.method import StudyTask
from ossnet.distributed.benchmark.redrawing_search import RedrawingSearch
from ossnet.distributed.tuning.config import EarlyStoppingConfig, constraint_options
from ossnet.distributed.tuning.early_stopping.scheduler import progress_of
from ossnet.metric_names import ERROR, MEMORY, VAL_DICE
from ossnet.planning.configure.planner import NETWORK
from ossnet.planning.estimator import PeakEstimator

_PROGRESS = "thousandths"


class RaySearch:
    """Ray's searcher over Optuna, and its scheduler.

    Args:
        fitted: have our planner fit each suggestion to the budget.
    """

    def __init__(self, task: StudyTask, sampler: optuna.samplers.BaseSampler, *, fitted: bool) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._task, self._planner = task, task.planner
        if fitted:
            self._planner = replace(task.planner, budget_gib=task.budget_gib, estimator=PeakEstimator())
        self._search = RedrawingSearch(
            task.space,
            points_to_evaluate=task.space.points_to_evaluate,
            metric=VAL_DICE,
            mode="max",
            sampler=sampler,
        )
        self._scheduler = ASHAScheduler(
            time_attr=_PROGRESS,
            metric=VAL_DICE,
            mode="max",
            max_t=task.rungs[-1],
            grace_period=task.rungs[0],
            reduction_factor=EarlyStoppingConfig().reduction_factor,
        )
        self._trial, self._started = SimpleNamespace(trial_id=""), 0
        self._dice: float | None = None
        self.refused = 0

    @classmethod
    def tpe(cls, task: StudyTask, *, fitted: bool = False) -> Self:
        """Optuna's default sampler, which learns from constraints."""
        return cls(task, optuna.samplers.TPESampler(seed=task.seed, **constraint_options()), fitted=fitted)

    @classmethod
    def random(cls, task: StudyTask) -> Self:
        """Random search."""
        return cls(task, optuna.samplers.RandomSampler(seed=task.seed), fitted=False)

    def suggest(self) -> Config | None:
        """The configuration of the next trial; None where nothing is left to try."""
        self._trial, self._dice = SimpleNamespace(trial_id=f"{self._started:05d}"), None
        self._started += 1
        suggested = self._search.suggest(self._trial.trial_id)
        if not isinstance(suggested, dict):
            assert suggested == Searcher.FINISHED
            return None
        self._scheduler.on_trial_add(None, self._trial)
        changes = {name: value for name, value in suggested.items() if "." in name or name == NETWORK}
        return self._task.configuration(self._planner, changes)

    def report(self, result: Mapping[str, float], checkpoint: Path | None = None) -> bool:
        """Take a report of the running trial; whether it continues."""
        if VAL_DICE not in result:
            return True
        self._dice = result[VAL_DICE]
        progress = progress_of(result, timed=True)
        told = {VAL_DICE: self._dice, _PROGRESS: progress, TRAINING_ITERATION: progress}
        self._search.on_trial_result(self._trial.trial_id, told)
        decision: str = self._scheduler.on_trial_result(None, self._trial, told)
        return decision != TrialScheduler.STOP

    def end(self, result: Mapping[str, Any]) -> None:
        """Take the trial's end: what is above the budget has no value, and its violation."""
        violation = result.get(MEMORY, 0.0) - self._task.budget_gib
        self._search.set_violation(self._trial.trial_id, violation)
        known = {} if violation > 0 or self._dice is None else {VAL_DICE: self._dice}
        self._search.on_trial_complete(self._trial.trial_id, known, error=ERROR in result)
