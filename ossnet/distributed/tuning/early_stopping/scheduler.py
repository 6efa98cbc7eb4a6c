"""Early stopping: trials that fall behind the others are stopped, and those that pass a limit of the study.

Ray's schedulers forget their past when a study is resumed; this one begins with a history.
"""

from collections.abc import Mapping, Sequence
from math import ceil, inf
from typing import TYPE_CHECKING, Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from ossnet.distributed.tuning.config import OBJECTIVES, EarlyStoppingConfig
from ossnet.distributed.tuning.early_stopping.rules import LearningCurve, StoppingRule
from ossnet.distributed.tuning.monitor import TrialMonitor
from ossnet.distributed.tuning.storage import TuningStudy, end_of
from ossnet.distributed.tuning.trial import TrialEnd
from ossnet.metric_names import EPOCH, SHARE, VAL_DICE

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

_WHOLE = 1000  # a trial's time, in thousandths


class EarlyStoppingScheduler(FIFOScheduler):
    """Compares trials after their validations, and stops what is measured above a limit.

    Trials are compared at the same epochs or, where a trial's time is planned, at the same shares of it in
    thousandths: networks differ in speed.

    Args:
        objectives: names of the study's objectives, Dice first.
        first_validation: the epoch (or the share) of a trial's first validation.
        epochs: those of a trial; None where trials are compared at shares of their time.
        history: learning curves of an earlier session, by the trial's number.
    """

    def __init__(
        self,
        config: EarlyStoppingConfig,
        monitor: TrialMonitor,
        *,
        objectives: Sequence[str] = ("dice",),
        first_validation: int,
        epochs: int | None,
        history: Mapping[int, LearningCurve],
    ) -> None:
        super().__init__()
        self._monitor, self._objectives, self._timed = monitor, objectives, epochs is None
        first_rung = first_validation if self._timed else config.grace_period or first_validation
        self._rule = StoppingRule(config, first_rung=first_rung, end=epochs or _WHOLE, history=history)

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
        epoch, dice = progress_of(result, timed=self._timed), float(result[VAL_DICE])
        costs = costs_in(self._monitor.known(trial.trial_id, result), self._objectives)
        stop = self._rule.should_stop(spec.number, epoch, dice, costs)
        self._rule.add(spec.number, epoch, dice, costs)
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE


def costs_in(metrics: Mapping[str, float], objectives: Sequence[str]) -> tuple[float, ...]:
    """The values of the objectives besides Dice; infinite where one is not known."""
    return tuple(metrics.get(OBJECTIVES[name].metric, inf) for name in objectives[1:])


def progress_of(result: Mapping[str, Any], *, timed: bool) -> int:
    """How far a training is in a result: its epochs, or the thousandths of its time."""
    if timed:
        return round(_WHOLE * float(result.get(SHARE, 0.0)))
    return ceil(float(result.get(EPOCH, 0)))


def learning_curves(study: TuningStudy) -> dict[int, LearningCurve]:
    """What is known of a study's trials that were validated, by their numbers.

    One that a measurement ended was compared with no other.
    """
    measured = {TrialEnd.INFEASIBLE_MEASURED, TrialEnd.TOO_SLOW}
    return {
        trial.number: LearningCurve(
            dict(trial.intermediate_values), costs_in(trial.user_attrs, study.objectives)
        )
        for trial in study.started_trials()
        if trial.intermediate_values and end_of(trial) not in measured
    }
