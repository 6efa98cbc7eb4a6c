"""Syne Tune's BOHB (Falkner et al., 2018): successive halving with kernel densities; installs as an extra.

It knows neither constraints nor conditional parameters: what is above the budget has a Dice of 0, and it
chooses a value for each parameter that the space may ask for.
"""

import logging
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import statsmodels.api  # noqa: F401 - which BOHB loads once it has something to learn from
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from syne_tune.backend.trial_status import Trial
from syne_tune.config_space import choice, finrange, lograndint, loguniform, randint, uniform
from syne_tune.optimizer.baselines import BOHB
from syne_tune.optimizer.scheduler import SchedulerDecision

from ossnet.config import Config
from ossnet.distributed.benchmark.method import StudyTask
from ossnet.distributed.tuning.config import EarlyStoppingConfig
from ossnet.distributed.tuning.early_stopping.scheduler import progress_of
from ossnet.distributed.tuning.search_space import MOST_REDRAWS, Space, sample_points
from ossnet.errors import UserError
from ossnet.metric_names import ERROR, MEMORY, VAL_DICE

_PROGRESS = "thousandths"


class SyneTuneSearch:
    """Syne Tune's scheduler, asked for one trial at a time."""

    refused = 0

    def __init__(self, task: StudyTask) -> None:
        np.random.seed(task.seed)
        self._task = task
        self._distributions = distributions_of(task.space)
        random = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=task.seed))
        points = [
            self._encode(random.ask(self._distributions).params | point)
            for point in task.space.points_to_evaluate
        ]
        logging.getLogger("syne_tune").setLevel(logging.ERROR)
        self._scheduler = BOHB(
            {name: domain_of(name, each) for name, each in self._distributions.items()},
            metric=VAL_DICE,
            do_minimize=False,
            time_attr=_PROGRESS,
            max_t=task.rungs[-1],
            grace_period=task.rungs[0],
            reduction_factor=EarlyStoppingConfig().reduction_factor,
            random_seed=task.seed,
            points_to_evaluate=points,
        )
        self._started = 0
        self._trial: Trial | None = None

    def suggest(self) -> Config | None:
        """The configuration of the next trial; None where nothing is left to try."""
        for _ in range(MOST_REDRAWS):
            suggestion = self._scheduler.suggest()
            if suggestion is None:
                return None
            self._trial = Trial(self._started, suggestion.config, datetime.now().astimezone())
            self._started += 1
            self._scheduler.on_trial_add(self._trial)
            try:
                changes = self._task.space(optuna.trial.FixedTrial(self._decode(suggestion.config)))
            except optuna.TrialPruned:
                self._tell(0.0, self._task.rungs[-1])
                continue
            return self._task.configuration(self._task.planner, changes)
        return None

    def report(self, result: Mapping[str, float], checkpoint: Path | None = None) -> bool:
        """Take a report of the running trial; whether it continues."""
        if VAL_DICE not in result:
            return True
        return self._tell(result[VAL_DICE], progress_of(result, timed=True))

    def end(self, result: Mapping[str, Any]) -> None:
        """Take the trial's end, which it knows unless there is no Dice."""
        if ERROR in result or result.get(MEMORY, 0.0) > self._task.budget_gib:
            self._tell(0.0, self._task.rungs[-1])

    def _tell(self, dice: float, progress: int) -> bool:
        decision: str = self._scheduler.on_trial_result(self._trial, {VAL_DICE: dice, _PROGRESS: progress})
        return decision != SchedulerDecision.STOP

    def _encode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters as Syne Tune knows them: choices by their place, as a text."""
        return {
            name: str(int(each.to_internal_repr(params[name])))
            if isinstance(each, CategoricalDistribution)
            else params[name]
            for name, each in self._distributions.items()
        }

    def _decode(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return {name: _decoded(config[name], each) for name, each in self._distributions.items()}


def _decoded(value: Any, distribution: BaseDistribution) -> Any:
    """A value as Optuna knows it; Syne Tune's whole numbers may lie one below their range."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(value)]
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return min(max(value, distribution.low), distribution.high)


def distributions_of(space: Space) -> dict[str, BaseDistribution]:
    """The range of each parameter that a space asks for at any of many random points.

    Raises:
        UserError: it asks for one with different ranges.
    """
    study, found = optuna.create_study(), dict[str, BaseDistribution]()
    for params, _ in sample_points(space, with_first=True):
        study.enqueue_trial(params)
        trial = study.ask()
        space(trial)
        for name, distribution in trial.distributions.items():
            if found.setdefault(name, distribution) != distribution:
                raise UserError(
                    f"{space.path.name}: {name}",
                    expected="one range for a parameter, as Syne Tune needs it",
                    found=f"{found[name]} and {distribution}",
                )
    return found


def domain_of(name: str, distribution: BaseDistribution) -> Any:
    """Syne Tune's domain of a parameter of Optuna."""
    if isinstance(distribution, CategoricalDistribution):
        return choice([str(place) for place in range(len(distribution.choices))])
    assert isinstance(distribution, FloatDistribution | IntDistribution), name
    low, high = distribution.low, distribution.high
    whole = isinstance(distribution, IntDistribution)
    if distribution.step is not None and not (whole and distribution.step == 1):
        return finrange(low, high, round((high - low) / distribution.step) + 1, cast_int=whole)
    if whole:
        return lograndint(low, high) if distribution.log else randint(low, high)
    return loguniform(low, high) if distribution.log else uniform(low, high)
