"""Who goes on: trials that fall behind the others are stopped, and those that pass the memory budget.

Ray's schedulers forget what they saw when a study is resumed; this one begins with a history.
"""

from collections.abc import Mapping
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from ossnet.distributed.cluster.oom_patch import HostOOMMonitor
from ossnet.distributed.tuning.early_stopping import EarlyStoppingConfig
from ossnet.metric_names import EPOCH, MEMORY, VAL_DICE

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

_FEWEST = 3  # trials whose median says something
Curve = dict[int, float]


class EarlyStoppingScheduler(FIFOScheduler):
    """Compares validation Dice epoch by epoch; ends as well what measures above the budget."""

    def __init__(
        self,
        config: EarlyStoppingConfig,
        *,
        first: int,
        history: Mapping[int, Curve],
        budget_gib: float | None,
        kills: HostOOMMonitor,
    ) -> None:
        super().__init__()
        self._config, self._grace = config, config.grace_period or first
        self._curves = {number: dict(curve) for number, curve in history.items()}
        self._budget_gib, self._kills = budget_gib, kills

    def on_trial_add(self, tune_controller: "TuneController", trial: "Trial") -> None:
        """Ray Tune shows itself to its scheduler only: have kills for memory noted."""
        self._kills.watch(tune_controller)

    def on_trial_result(
        self, tune_controller: "TuneController | None", trial: "Trial", result: dict[str, Any]
    ) -> str:
        """Whether the trial goes on."""
        if self._budget_gib is not None and result.get(MEMORY, 0.0) > self._budget_gib:
            return TrialScheduler.STOP
        if (
            VAL_DICE not in result or trial.config["seed"] > 0
        ):  # further seeds serve to judge a finished trial
            return TrialScheduler.CONTINUE
        number, epoch = trial.config["number"], int(result[EPOCH])
        behind = self.behind(number, epoch, result[VAL_DICE])
        self._curves.setdefault(number, {}).setdefault(epoch, result[VAL_DICE])  # the first telling counts
        return TrialScheduler.STOP if behind else TrialScheduler.CONTINUE

    def behind(self, number: int, epoch: int, score: float) -> bool:
        """Whether a trial that comes to an epoch with this Dice should end there."""
        if epoch < self._grace or self._config.algorithm == "none":
            return False
        own = self._curves.get(number, {})
        others = [curve for other, curve in self._curves.items() if other != number]
        if self._config.algorithm == "median":
            means = [_mean_until(curve, epoch) for curve in others if max(curve) >= epoch]
            return len(means) >= _FEWEST and max([*own.values(), score]) < median(means)
        rung = self._grace
        while rung * self._config.reduction_factor <= epoch:
            rung *= self._config.reduction_factor
        if any(known >= rung for known in own):  # it was let go on from there
            return False
        rivals = [curve[at] for curve in others if (at := _arrival(curve, rung)) is not None]
        return bool(rivals) and score < _cutoff(rivals, self._config.reduction_factor)


def _arrival(curve: Curve, rung: int) -> int | None:
    """The epoch at which a trial came to a rung."""
    return min((epoch for epoch in curve if epoch >= rung), default=None)


def _mean_until(curve: Curve, epoch: int) -> float:
    return fmean(value for at, value in curve.items() if at <= epoch)


def _cutoff(values: list[float], reduction: int) -> float:
    import numpy as np

    return float(np.percentile(values, (1 - 1 / reduction) * 100))
