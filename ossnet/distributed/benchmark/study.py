"""A study of one method: trials one after the other in this process, until its CPU time is spent."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ossnet.config import Config
from ossnet.distributed.benchmark.method import CpuMeter, Method, StudyTask
from ossnet.distributed.benchmark.results import StudyRow, TrialRow, Validation
from ossnet.errors import StoreError, TimeTooShort, UserError
from ossnet.metric_names import CUT_SHORT, ERROR, FINAL, MEMORY, VAL_DICE, VALIDATED_CASES
from ossnet.training_run import run_training

_LEAST_TRIAL_S = 1.0  # of CPU time, that a trial is started with

MakeMethod = Callable[[StudyTask, CpuMeter], Method]


class _TrialEnded(Exception):  # noqa: N818 - it is no error
    """The method or the memory budget ends the running trial."""


def run_study(name: str, make: MakeMethod, task: StudyTask) -> StudyRow:
    """Run a study.

    Args:
        make: the method's constructor; what it takes counts as search.
    """
    meter, trials = CpuMeter(), list[TrialRow]()
    with meter.searching():
        method = make(task, meter)
    while task.time_s - meter.spent_s > _LEAST_TRIAL_S:
        with meter.searching():
            config = method.suggest()
        if config is None or task.time_s - meter.spent_s < _LEAST_TRIAL_S:
            break
        trials.append(_run_trial(method, config, task, meter))
    return StudyRow(
        method=name,
        seed=task.seed,
        cpu_s=meter.spent_s,
        search_s=meter.search_s,
        refused=method.refused,
        trials=tuple(trials),
    )


def _run_trial(method: Method, config: Config, task: StudyTask, meter: CpuMeter) -> TrialRow:
    reporter, before_s = _Reporter(method, task, meter), meter.training_s
    result = dict[str, Any]()
    try:
        result = run_training(
            config,
            task.store,
            reporter=reporter,
            predicted_gib=0.0,  # the budget is checked when a step was measured, for all methods alike
            deadline=time.time() + task.time_s - meter.spent_s,
            now=time.process_time,
            measured=reporter.measured,
        )
    except _TrialEnded:
        result = reporter.result
    except StoreError:
        raise
    except (UserError, FloatingPointError) as error:
        cut_short = {CUT_SHORT: 1.0} if isinstance(error, TimeTooShort) else {}
        result = {ERROR: str(error), **cut_short}
    with meter.searching():
        method.end(result)
    return TrialRow(
        network=config.model.name,
        cpu_s=meter.training_s - before_s,
        memory_gib=reporter.memory_gib,
        end=_end_of(result, task.budget_gib),
        validations=tuple(reporter.validations),
    )


def _end_of(result: Mapping[str, Any], budget_gib: float) -> str:
    """How a trial ended, in words, from its last report."""
    if result.get(MEMORY, 0.0) > budget_gib:
        return "over budget"
    if result.get(CUT_SHORT):
        return "cut short"
    if ERROR in result:
        return f"failed: {result[ERROR]}"
    return "finished" if result.get(FINAL) else "stopped early"


class _Reporter:
    """Hands a trial's reports to the method, and ends the trial where either says so."""

    def __init__(self, method: Method, task: StudyTask, meter: CpuMeter) -> None:
        self._method, self._task, self._meter = method, task, meter
        self.result: dict[str, float] = {}
        self.memory_gib: float | None = None
        self.validations: list[Validation] = []

    def measured(self, peak_gib: float) -> None:
        """Take the measured peak of a step."""
        self.memory_gib = peak_gib
        if peak_gib > self._task.budget_gib:
            self.result = {MEMORY: peak_gib}
            raise _TrialEnded

    def step(self, metrics: dict[str, float], step: int) -> None:
        """Ignore the metrics of a single step."""

    def epoch(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Take a report, which may be one of a validation."""
        self.result = dict(metrics)
        if VAL_DICE in metrics:
            cases = int(metrics[VALIDATED_CASES])
            self.validations.append(Validation(self._meter.spent_s, metrics[VAL_DICE], cases))
        with self._meter.searching():
            continues = self._method.report(metrics, checkpoint)
        if not continues:
            raise _TrialEnded
