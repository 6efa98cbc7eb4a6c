"""Our search, as `tune` runs it: its own estimate, planner, sampler, screen, scheduler and last training."""

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
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
from ossnet.distributed.tuning.final.refit import trained_on
from ossnet.distributed.tuning.monitor import TrialMonitor
from ossnet.distributed.tuning.result import TrialCounts
from ossnet.distributed.tuning.search_space import check_space
from ossnet.distributed.tuning.searcher import StudySearch
from ossnet.distributed.tuning.storage import TuningStudy
from ossnet.distributed.tuning.study import StudySpec
from ossnet.distributed.tuning.trial import TrialSpec
from ossnet.metric_names import VAL_DICE
from ossnet.planning.allocation import TRIAL_START_S, Allocation, allocate
from ossnet.planning.estimator import PeakEstimator
from ossnet.planning.study_time import StudyTime, TrialTime
from ossnet.training.checkpoint_files import CHECKPOINT, replace_checkpoint

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
        self._limit = StudyTime(task.time_s, _with_refit(task), timed=True, now=lambda: meter.spent_s)
        monitor = TrialMonitor(budget_gib=task.budget_gib, time_limit=self._limit)
        one_at_a_time = TrialPlacement(1, WorkerResources(1), concurrent=1)
        self._search = StudySearch(spec, self._study, monitor, placement=one_at_a_time, estimator=estimator)
        self._scheduler = EarlyStoppingScheduler(
            spec.early_stopping, monitor, first_validation=task.rungs[0], epochs=None, history={}
        )
        self._trial = SimpleNamespace(trial_id="")
        self._started, self._task = 0, task
        self._running: Config | None = None
        self._best: tuple[float, Config] | None = None
        self._ended = False

    @property
    def refused(self) -> int:
        """Suggestions that never started, as they were predicted to be too large."""
        return TrialCounts.of(self._study).rejected

    def suggest(self) -> Config | None:
        """The configuration of the next trial; None where nothing is left to try."""
        self._trial = SimpleNamespace(trial_id=f"{self._started:05d}")
        self._started += 1
        suggested = None if self._ended else self._search.suggest(self._trial.trial_id)
        if suggested is None or suggested == Searcher.FINISHED:
            self._running = self._last_training()
            self._ended = True
        else:
            assert isinstance(suggested, dict)
            config = TrialSpec.from_dict(suggested).config
            time_s = min(self._task.allocation.trial_s, self._limit.trials_remaining_s)
            self._running = config.replace({"training.max_time_s": time_s})
        return self._running

    def report(self, result: Mapping[str, float], checkpoint: Path | None = None) -> bool:
        """Take a report of the running trial; whether it continues."""
        if self._ended:
            return True
        self._keep_best(result.get(VAL_DICE, 0.0), checkpoint)
        decision = self._scheduler.on_trial_result(None, self._trial, dict(result))
        self._search.on_trial_result(self._trial.trial_id, dict(result))
        return decision != TrialScheduler.STOP

    def end(self, result: Mapping[str, Any]) -> None:
        """Take the trial's end."""
        if self._ended:
            return
        self._search.on_trial_complete(self._trial.trial_id, dict(result))

    def _keep_best(self, dice: float, checkpoint: Path | None) -> None:
        if checkpoint is None or self._running is None or dice <= (self._best[0] if self._best else 0.0):
            return
        with replace_checkpoint(self._task.folder / CHECKPOINT) as folder:
            shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
        self._best = dice, self._running

    def _last_training(self) -> Config | None:
        """The best network's, from its weights on, for all the time that is left; once."""
        time_s = self._limit.refit_until - self._limit.now()
        if self._ended or self._best is None or time_s <= 0:
            return None
        return trained_on(self._best[1], self._task.store, time_s, str(self._task.folder / CHECKPOINT))


def _with_refit(task: StudyTask) -> Allocation:
    """The plan with a part of the time for the last training; trials are as long as those of all methods."""
    plan = allocate(task.time_s, slots=1, start_s=TRIAL_START_S, closing_s=0.0, refit=True)
    return replace(task.allocation, search_s=plan.search_s, refit_s=plan.refit_s)
