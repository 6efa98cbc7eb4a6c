"""Early stopping: trials that fall behind the others are stopped, and those that pass the memory budget.

Ray's schedulers forget their past when a study is resumed; this one begins with a history.
"""

from collections.abc import Mapping
from math import ceil
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from ossnet.distributed.tuning.config import EarlyStoppingConfig
from ossnet.distributed.tuning.monitor import TrialMonitor
from ossnet.metric_names import EPOCH, SHARE, VAL_DICE

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

_FEWEST = 3  # trials whose median is meaningful
Curve = dict[int, float]
"""Validation Dice by epoch, or by thousandths of a trial's time."""


class EarlyStoppingScheduler(FIFOScheduler):
    """Compares validation Dice, and stops what is measured above the budget.

    Trials are compared at the same epochs or, where a trial's time is planned, at the same shares of it in
    thousandths: networks differ in speed.

    Args:
        first_validation: the epoch (or the share) of a trial's first validation.
        timed: whether trials are compared at shares of their time.
        history: learning curves of an earlier session, by the trial's number.
    """

    def __init__(
        self,
        config: EarlyStoppingConfig,
        monitor: TrialMonitor,
        *,
        first_validation: int,
        timed: bool = False,
        history: Mapping[int, Curve],
    ) -> None:
        super().__init__()
        self._config, self._monitor = config, monitor
        self._timed = timed
        self._grace_period = first_validation if timed else config.grace_period or first_validation
        self._curves = {number: dict(curve) for number, curve in history.items()}

    def on_trial_add(self, tune_controller: "TuneController", trial: "Trial") -> None:
        """Have kills for memory noticed: Ray Tune gives its controller to its scheduler only."""
        self._monitor.host_oom.watch(tune_controller)

    def on_trial_result(
        self, tune_controller: "TuneController | None", trial: "Trial", result: dict[str, Any]
    ) -> str:
        """Decide whether the trial continues."""
        if self._monitor.must_stop(trial.trial_id, result):
            return TrialScheduler.STOP
        spec = self._monitor.spec(trial)
        if VAL_DICE not in result or spec.seed > 0:  # further seeds serve to assess a finished trial
            return TrialScheduler.CONTINUE
        epoch = progress_of(result, timed=self._timed)
        stop = self.should_stop(spec.number, epoch, result[VAL_DICE])
        # the first report of an epoch counts
        self._curves.setdefault(spec.number, {}).setdefault(epoch, result[VAL_DICE])
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE

    def should_stop(self, number: int, epoch: int, dice: float) -> bool:
        """Whether a trial that comes to an epoch with this Dice is behind the others."""
        if epoch < self._grace_period or self._config.algorithm == "none":
            return False
        own = self._curves.get(number, {})
        others = [curve for other, curve in self._curves.items() if other != number]
        if self._config.algorithm == "median":
            means = [_mean_until(curve, epoch) for curve in others if max(curve) >= epoch]
            return len(means) >= _FEWEST and max([*own.values(), dice]) < median(means)
        rung = self._grace_period
        while rung * self._config.reduction_factor <= epoch:
            rung *= self._config.reduction_factor
        if any(known >= rung for known in own):  # it was allowed to continue from there
            return False
        competitors = [curve[at] for curve in others if (at := _arrival(curve, rung)) is not None]
        return bool(competitors) and dice < _cutoff(competitors, self._config.reduction_factor)


def progress_of(result: Mapping[str, Any], *, timed: bool) -> int:
    """How far a training is in a result: its epochs, or the thousandths of its time."""
    if timed:
        return round(1000 * float(result.get(SHARE, 0.0)))
    return ceil(float(result.get(EPOCH, 0)))


def _arrival(curve: Curve, rung: int) -> int | None:
    """The epoch at which a trial came to a rung."""
    return min((epoch for epoch in curve if epoch >= rung), default=None)


def _mean_until(curve: Curve, epoch: int) -> float:
    return fmean(value for at, value in curve.items() if at <= epoch)


def _cutoff(values: list[float], reduction_factor: int) -> float:
    import numpy as np

    return float(np.percentile(values, (1 - 1 / reduction_factor) * 100))
