"""Our search, as `tune` runs it: its own estimate, planner, sampler, screen and scheduler."""

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from ossnet.config import Config
from ossnet.distributed.benchmark.method import CpuMeter, StudyTask
from ossnet.distributed.cluster.resources import TrialPlacement, WorkerResources
from ossnet.distributed.tracking.client import TrackingConfig
from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.early_stopping.scheduler import EarlyStoppingScheduler
from ossnet.distributed.tuning.feasibility import estimate_feasibility
from ossnet.distributed.tuning.monitor import TrialMonitor
from ossnet.distributed.tuning.result import TrialCounts
from ossnet.distributed.tuning.search_space import check_space
from ossnet.distributed.tuning.searcher import StudySearch
from ossnet.distributed.tuning.storage import TuningStudy
from ossnet.distributed.tuning.study import StudySpec
from ossnet.distributed.tuning.trial import TrialSpec
from ossnet.planning.estimator import PeakEstimator
from ossnet.planning.study_time import StudyTime, TrialTime

_NAME = "ossnet"


class OurSearch:
    """Drives the parts of a study of `tune` without a cluster or a store of runs."""

    def __init__(self, task: StudyTask, meter: CpuMeter) -> None:
        planner = replace(task.planner, budget_gib=task.budget_gib)
        task.folder.mkdir(parents=True, exist_ok=True)
        spec = StudySpec(
            name=_NAME,
            space=task.space,
            base=planner.base,
            planner=planner,
            store=task.store,
            output=task.folder,
            tracking=TrackingConfig.at(task.folder, _NAME),
            trials=task.allocation.trials,
            optimization=OptimizationConfig(budget_gib=task.budget_gib),
        )
        estimator = PeakEstimator()
        check_space(task.space, planner, task.store)
        estimate_feasibility(task.space, replace(planner, estimator=estimator), task.budget_gib)
        self._study = TuningStudy.open_or_create(spec.database, _NAME, spec.optimization)
        self._study.plan_trial_time(TrialTime.of(task.allocation))
        limit = StudyTime(task.time_s, task.allocation, timed=True, now=lambda: meter.spent_s)
        monitor = TrialMonitor(budget_gib=task.budget_gib, time_limit=limit)
        one_at_a_time = TrialPlacement(1, WorkerResources(1), concurrent=1)
        self._search = StudySearch(spec, self._study, monitor, placement=one_at_a_time, estimator=estimator)
        self._scheduler = EarlyStoppingScheduler(
            spec.early_stopping, monitor, first_validation=task.rungs[0], epochs=None, history={}
        )
        self._trial = SimpleNamespace(trial_id="")
        self._started = 0

    @property
    def refused(self) -> int:
        """Suggestions that never started, as they were predicted to be too large."""
        return TrialCounts.of(self._study).rejected

    def suggest(self) -> Config | None:
        """The configuration of the next trial; None where nothing is left to try."""
        self._trial = SimpleNamespace(trial_id=f"{self._started:05d}")
        self._started += 1
        suggested = self._search.suggest(self._trial.trial_id)
        if suggested is None or suggested == Searcher.FINISHED:
            return None
        assert isinstance(suggested, dict)
        return TrialSpec.from_dict(suggested).config

    def report(self, result: Mapping[str, float]) -> bool:
        """Take a report of the running trial; whether it continues."""
        decision = self._scheduler.on_trial_result(None, self._trial, dict(result))
        self._search.on_trial_result(self._trial.trial_id, dict(result))
        return decision != TrialScheduler.STOP

    def end(self, result: Mapping[str, Any]) -> None:
        """Take the trial's end."""
        self._search.on_trial_complete(self._trial.trial_id, dict(result))
