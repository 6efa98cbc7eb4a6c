"""What Optuna's study is given of trials that ended, for its sampler to learn from."""

from collections.abc import Mapping
from statistics import fmean

import optuna
from optuna.trial import TrialState

from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.storage import END, METRICS, SEEDS, TuningStudy, set_constraints
from ossnet.distributed.tuning.trial import TrialEnd, TrialOutcome
from ossnet.metric_names import CASE_MEDIAN, ERROR, INFERENCE_MEMORY, MEMORY, VAL_DICE

_LEAST = 1e-3  # by which an infeasible trial misses at least: Optuna takes zero for feasible


class OutcomeWriter:
    """Ends trials in the study.

    Args:
        optimization: the study's; its budget is the largest expected peak that may start.
    """

    def __init__(self, study: TuningStudy, optimization: OptimizationConfig) -> None:
        self._study, self._optimization = study, optimization

    def write(self, trial: optuna.Trial, outcome: TrialOutcome, *, expected_gib: float = 0.0) -> None:
        """End a trial that did not finish, or of which one seed did not.

        Args:
            expected_gib: the peak that an infeasible trial is taken to have where none was measured.
        """
        if outcome.end.is_infeasible:
            self.write_infeasible(trial, outcome.end, {MEMORY: expected_gib, **outcome.metrics})
        elif outcome.end is TrialEnd.FAILED:
            trial.set_user_attr(ERROR, outcome.error)
            trial.set_user_attr(END, outcome.end)
            self._study.tell(trial, state=TrialState.FAIL)
        else:
            self._write_stopped(trial, outcome)

    def write_complete(self, trial: optuna.Trial, ended: Mapping[str, Mapping[str, float]]) -> None:
        """End a trial as finished, with the means over its seeds and their largest peak.

        Args:
            ended: the metrics of each seed that finished.
        """
        means = {
            name: fmean(each[name] for each in ended.values() if name in each)
            for name in {name for each in ended.values() for name in each}
        }
        peaks = [each[MEMORY] for each in ended.values() if MEMORY in each]
        metrics = means | ({MEMORY: max(peaks)} if peaks else {})
        trial.set_user_attr(METRICS, metrics)
        set_constraints(trial, self._optimization.violations(metrics))
        trial.set_user_attr(END, TrialEnd.FINISHED)
        self._study.tell(trial, self._optimization.values({MEMORY: 0.0, **metrics}))

    def write_infeasible(self, trial: optuna.Trial, end: TrialEnd, metrics: Mapping[str, float]) -> None:
        """End a trial as pruned; but a sampler that learns from values only is given the worst Dice there is.

        Args:
            metrics: what is known or expected of it.
        """
        trial.set_user_attr(END, end)
        violations = self._optimization.violations(metrics)
        violations[end.constraint] = max(violations[end.constraint], _LEAST)
        set_constraints(trial, violations)
        if self._optimization.ignores_pruned:
            self._study.tell(trial, self._optimization.values({**self._worst(), **metrics, VAL_DICE: 0.0}))
        else:
            self._study.tell(trial, state=TrialState.PRUNED)

    def _worst(self) -> dict[str, float]:
        """The largest value of each metric so far, for what is not known: samplers warn of infinite ones."""
        found = dict[str, float]()
        for trial in self._study.get_trials(deepcopy=False):
            for name, value in trial.user_attrs.get(METRICS, {}).items():
                found[name] = max(value, found.get(name, value))
        return {CASE_MEDIAN: 0.0, INFERENCE_MEMORY: 0.0} | found

    def _write_stopped(self, trial: optuna.Trial, outcome: TrialOutcome) -> None:
        """A training was stopped. Optuna takes the last intermediate value for the trial's."""
        ended = trial.user_attrs.get(SEEDS)
        if ended:
            self.write_complete(trial, ended)
            return
        set_constraints(trial, self._optimization.violations(outcome.metrics))
        trial.set_user_attr(END, outcome.end)
        self._study.tell(trial, state=TrialState.PRUNED)
