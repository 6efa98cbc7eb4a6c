"""The state of a study's trainings in its driver: the searcher writes it, scheduler and callbacks read it."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ossnet.distributed._ray import last_result
from ossnet.distributed.cluster.node_faults import NodeFaults
from ossnet.distributed.cluster.oom_patch import HostOOMMonitor
from ossnet.distributed.tuning.trial import TrialEnd, TrialFacts, TrialOutcome, TrialSpec, decide_outcome
from ossnet.metric_names import CASE_MEDIAN, ERROR, FAULTY_NODE
from ossnet.planning.study_time import StudyTime

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


class TrialMonitor:
    """The spec, the last metrics and the outcome of each training, by Ray Tune's id of it.

    Args:
        budget_gib: the largest measured peak that may continue.
        seconds_per_case: the longest that predicting a case may take.
        time_limit: what limits the study in time.
    """

    def __init__(
        self,
        *,
        budget_gib: float | None = None,
        seconds_per_case: float | None = None,
        time_limit: StudyTime | None = None,
    ) -> None:
        self._limits = TrialFacts(budget_gib=budget_gib, seconds_per_case=seconds_per_case)
        self.time_limit = time_limit
        self._start_s = time.monotonic()
        self.ends = False
        """Whether no further trial starts, as the study was interrupted."""
        self.host_oom = HostOOMMonitor()
        self.node_faults = NodeFaults()
        self._specs: dict[str, TrialSpec] = {}
        self._metrics: dict[str, dict[str, float]] = {}
        self._outcomes: dict[str, TrialOutcome] = {}

    @property
    def elapsed_s(self) -> float:
        """Seconds since the study began."""
        return time.monotonic() - self._start_s

    @property
    def remaining_s(self) -> float | None:
        """Seconds until all trials have to have ended; None where time is not limited."""
        return None if self.time_limit is None else self.time_limit.trials_remaining_s

    @property
    def can_start(self) -> bool:
        """Whether there is time for a further trial."""
        return not self.ends and (self.time_limit is None or self.time_limit.can_start)

    def add(self, trial_id: str, spec: TrialSpec, metrics: Mapping[str, float]) -> None:
        """Remember a training that starts, and the metrics that an earlier session left of it."""
        self._specs[trial_id] = spec
        self._metrics[trial_id] = dict(metrics)

    def spec(self, trial: "Trial") -> TrialSpec:
        """The spec of a training."""
        if trial.trial_id not in self._specs:
            self._specs[trial.trial_id] = TrialSpec.from_trial(trial)
        return self._specs[trial.trial_id]

    def update(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Remember the metrics in a result."""
        self._metrics[trial_id] = self.known(trial_id, result)

    def metrics(self, trial_id: str) -> dict[str, float]:
        """The last known value of each metric of a training."""
        return self._metrics.get(trial_id, {})

    def known(self, trial_id: str, result: Mapping[str, Any]) -> dict[str, float]:
        """What is known of a training with a new result: the last value of each metric, but the least time of
        a case, to which whatever else ran only added."""
        before, found = self.metrics(trial_id), _metrics_in(result)
        times = [each[CASE_MEDIAN] for each in (before, found) if CASE_MEDIAN in each]
        return before | found | ({CASE_MEDIAN: min(times)} if times else {})

    def expected_gib(self, trial_id: str) -> float | None:
        """The predicted peak of a training; None where it was not requested."""
        return self._specs[trial_id].expected_gib

    def must_stop(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether a running training passes a limit."""
        facts = replace(self._limits, metrics=self.known(trial_id, result))
        return decide_outcome(facts) is not None

    def end(
        self, trial_id: str, result: Mapping[str, Any], *, lost: bool = False, cut_off: bool = False
    ) -> TrialOutcome:
        """The outcome of a training that has ended, decided on the first call.

        Args:
            result: the last one that Ray Tune has.
            lost: its process died for the last time.
            cut_off: it was still running when the study ended.
        """
        if trial_id not in self._outcomes:
            self.update(trial_id, result)
            facts = replace(
                self._limits,
                result=result,
                metrics=self.metrics(trial_id),
                ended=True,
                lost=lost,
                killed_for_memory=trial_id in self.host_oom,
                cut_off=cut_off,
            )
            self._outcomes[trial_id] = self._decide(facts)
            if self._outcomes[trial_id].end is TrialEnd.NODE_FAILURE:
                self.node_faults.add(str(result[FAULTY_NODE]), str(result[ERROR]))
        return self._outcomes[trial_id]

    def end_of(self, trial: "Trial", *, lost: bool = False, cut_off: bool = False) -> TrialOutcome:
        """The outcome of one of Ray Tune's trials that has ended."""
        return self.end(trial.trial_id, last_result(trial), lost=lost, cut_off=cut_off)

    def cut_off(self, metrics: Mapping[str, float]) -> TrialOutcome:
        """The outcome of a training that the end of the study keeps from starting."""
        return self._decide(replace(self._limits, metrics=metrics, ended=True, cut_off=True))

    def _decide(self, facts: TrialFacts) -> TrialOutcome:
        time_is_up = self.remaining_s is not None and self.remaining_s <= 0
        outcome = decide_outcome(replace(facts, time_is_up=time_is_up))
        assert outcome is not None  # as it has ended
        return outcome


def _metrics_in(result: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in result.items()
        if "/" in name and not name.startswith("config/") and isinstance(value, int | float)
    }
