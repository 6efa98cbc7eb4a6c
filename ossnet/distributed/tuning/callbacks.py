"""Callbacks of a study's driver as trials start, are lost and end: MLflow runs, whole GPUs, a log."""

import logging
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from ossnet.data import Store
from ossnet.distributed._ray import last_result
from ossnet.distributed.cluster.resources import TrialPlacement
from ossnet.distributed.tracking.actor import flush
from ossnet.distributed.tracking.client import MetricPoint, RunSpec
from ossnet.distributed.tracking.description import NOTE, dataset_of, describe, store_name
from ossnet.distributed.tracking.last_save import LastSave
from ossnet.distributed.tuning.monitor import TrialMonitor
from ossnet.distributed.tuning.result import TrialCounts, best_of, dice_of
from ossnet.distributed.tuning.search_space import short
from ossnet.distributed.tuning.storage import (
    TuningStudy,
    checkpoint_folders,
    folder_name,
    is_feasible,
    trainings_of,
)
from ossnet.distributed.tuning.trial import TrialEnd, TrialOutcome, TrialSpec
from ossnet.metric_names import (
    BEST_DICE,
    ELAPSED,
    ERROR,
    FEASIBLE_SHARE,
    GPU_HOURS,
    INFERENCE_MEMORY,
    PREDICTED,
    SEARCH_PARAMS,
    STORE,
    STUDY_GPU_HOURS,
    STUDY_HOURS,
    TITLE,
    TRIAL_NUMBER,
)
from ossnet.output.interruption import Interruption
from ossnet.output.remote.copies import fetch_part

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle
    from ray.tune.experiment import Trial

    from ossnet.distributed.tracking.client import Tracker

logger = logging.getLogger(__name__)


_HOUR_S = 3600
_CHECKPOINT = "checkpoint_path"  # Ray's name in the results of a nested run


def trial_folder(trial: "Trial") -> str:
    """The folder of one of Ray Tune's trials."""
    spec = TrialSpec.from_trial(trial)
    return folder_name(spec.number, spec.seed, trial.trial_id)


class FullGpuOnRetry(Callback):
    """Gives a whole GPU to a trial that was lost while it shared one: its part may have been too small."""

    def __init__(self, placement: TrialPlacement) -> None:
        self._whole = placement.resources

    def on_trial_recover(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Request a whole GPU from now on."""
        gpus = trial.placement_group_factory.required_resources.get("GPU", 0)
        if gpus < self._whole.gpus:
            number = TrialSpec.from_trial(trial).number
            logger.info(f"trial {number:03d} was lost on {gpus:g} GPU: it continues with a whole one")
            trial.update_resources(self._whole.as_ray())


class MLflowCallback(Callback):
    """Opens and closes the trials' MLflow runs; a trial that is stopped cannot do so itself.

    Args:
        store: what the trials are trained on.
        fold: the fold that they are validated on.
        tags: tags of every run.
        output: the study's folder.
    """

    def __init__(
        self,
        tracker: "ActorHandle[Tracker]",
        monitor: TrialMonitor,
        tags: Mapping[str, str],
        store: Store,
        *,
        fold: int | None,
        output: Path,
    ) -> None:
        self.tracker, self._monitor, self._output = tracker, monitor, output
        self._store, self._dataset = store, dataset_of(store, fold=fold)
        self._tags = {**tags, STORE: str(store.root)}
        self._calls: list[ObjectRef[Any]] = []
        self._open: dict[str, Trial] = {}  # the last try of each run
        self._closed: set[str] = set()
        self.failures: list[str] = []
        """Why trainings failed, in the order of their ends."""

    def on_trial_start(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Open, or open again, the trial's run."""
        spec = self._monitor.spec(trial)
        run = RunSpec(
            id=spec.run,
            name=self._name(spec),
            params=spec.config.flatten(),
            tags=self._tags
            | {
                "network": spec.config.model.name,
                TRIAL_NUMBER: str(spec.number),
                "seed": str(spec.seed),
                SEARCH_PARAMS: ",".join(spec.search_params),
                TITLE: spec.title,
                NOTE: describe(spec.title, self._store, params=spec.params),
            },
        )
        self._open[run.id] = trial
        self._calls.append(self.tracker.open_run.remote(run))
        self._calls.append(self.tracker.log_input.remote(run.id, self._dataset))
        self._calls.append(self.tracker.log_text.remote(run.id, spec.config_json, "config.json"))
        predicted, now = {PREDICTED: spec.predicted_gib, INFERENCE_MEMORY: spec.inference_gib}, time.time_ns()
        points = [
            MetricPoint(name, gib, 0, now // 1_000_000) for name, gib in predicted.items() if gib is not None
        ]
        if points:
            self._calls.append(self.tracker.log.remote(run.id, points))

    def on_trial_complete(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Close the run of a trial that ended or was stopped by the scheduler, unless it is tried again."""
        outcome = self._monitor.end_of(trial)
        if outcome.end is not TrialEnd.NODE_FAILURE:
            self._close(trial, outcome)

    def on_trial_error(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Close the run of a trial that failed for good."""
        outcome = self._monitor.end_of(trial, lost=True)
        self.failures.append(failure(trial))
        self._close(trial, outcome, {ERROR: failure(trial)})

    def on_experiment_end(self, trials: list["Trial"], **info: Any) -> None:
        """Close what a time limit or an interruption cut off."""
        for trial in list(self._open.values()):
            self._close(trial, self._monitor.end_of(trial, cut_off=True))

    @property
    def open_trials(self) -> list["Trial"]:
        """The trials whose runs are open."""
        return list(self._open.values())

    def flush(self) -> None:
        """Wait until all is written."""
        flush(self._calls, self.tracker)

    def _name(self, spec: TrialSpec) -> str:
        """Number, network, what varied and the store."""
        varied = " ".join(f"{name}={short(value)}" for name, value in spec.varied.items())
        return ", ".join(part for part in (spec.title, varied, store_name(self._store)) if part)

    def _close(self, trial: "Trial", outcome: TrialOutcome, tags: Mapping[str, str] | None = None) -> None:
        spec = self._monitor.spec(trial)
        run, metrics = spec.run, self._monitor.metrics(trial.trial_id)
        if run in self._closed:
            return
        self._open.pop(run, None)
        self._closed.add(run)
        whole = {TrialEnd.FINISHED, TrialEnd.TIME_LIMIT}
        checkpoint = _last_checkpoint(trial, self._output) if outcome.end in whole else None
        note = {NOTE: describe(spec.title, self._store, metrics, spec.params)}
        ended = self.tracker.close.remote(run, outcome.status, note | outcome.tags() | dict(tags or {}))
        self._calls.append(ended)
        if checkpoint is not None:
            self._calls.append(self.tracker.log_checkpoint.remote(run, checkpoint))


class StudyMetrics(Callback):
    """Adds to the study's run how it goes, a step for each trial that has ended, those of before a resumption
    included."""

    def __init__(self, tracker: "ActorHandle[Tracker]", study: TuningStudy, monitor: TrialMonitor) -> None:
        self._tracker, self._study, self._monitor = tracker, study, monitor
        earlier = [values for trial in study.started_trials() for values in trainings_of(trial)]
        self._hours = sum(each.get(ELAPSED, 0.0) for each in earlier) / _HOUR_S
        self._gpu_hours = sum(each.get(GPU_HOURS, 0.0) for each in earlier)

    def on_trial_complete(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Log the study's metrics."""
        metrics = self._monitor.metrics(trial.trial_id)
        self._hours += metrics.get(ELAPSED, 0.0) / _HOUR_S
        self._gpu_hours += metrics.get(GPU_HOURS, 0.0)
        now = time.time_ns() // 1_000_000
        step = TrialCounts.of(self._study).ended
        points = [MetricPoint(name, value, step, now) for name, value in self._values().items()]
        self._tracker.log.remote(self._study.parent_run_key, points)

    def on_trial_error(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Log them after a trial that failed, too."""
        self.on_trial_complete(iteration, trials, trial)

    def _values(self) -> dict[str, float]:
        ended = [each for each in self._study.started_trials() if each.state.is_finished()]
        best = best_of(ended)
        values = {STUDY_HOURS: self._hours}
        values |= {STUDY_GPU_HOURS: self._gpu_hours} if self._gpu_hours else {}
        values |= {FEASIBLE_SHARE: sum(map(is_feasible, ended)) / len(ended)} if ended else {}
        return values | ({} if best is None else {BEST_DICE: dice_of(best)})


class SaveOnInterrupt(Callback):
    """Ends an interrupted study once its running trials have saved a checkpoint; none starts any more.

    Until then results are taken as always: a trial that waits for its own to be taken saves nothing.

    Args:
        output: the study's folder.
        grace_s: seconds that it may take.
    """

    def __init__(
        self,
        interruption: Interruption,
        runs: MLflowCallback,
        monitor: TrialMonitor,
        *,
        output: Path,
        grace_s: float,
    ) -> None:
        self._interruption, self._runs, self._monitor = interruption, runs, monitor
        self._output, self._grace_s = output, grace_s
        self._save: LastSave | None = None

    def on_step_end(self, iteration: int, trials: list["Trial"], **info: Any) -> None:
        """Ask for the checkpoints, and end the study when they are there.

        Raises:
            KeyboardInterrupt: they are, or the time is over.
        """
        if self._interruption.error is None:
            return
        if self._save is None:
            self._monitor.ends = True
            specs = [self._monitor.spec(trial) for trial in self._runs.open_trials]
            folders = {
                each.run: partial(checkpoint_folders, self._output, each.number, each.seed, each.run)
                for each in specs
            }
            self._save = LastSave(self._runs.tracker, self._grace_s, folders)
        if self._save.is_over():
            raise self._interruption.error


def failure(trial: "Trial") -> str:
    """Why a trial failed, in one line."""
    reported = last_result(trial).get(ERROR)
    if reported:
        return str(reported)
    path = trial.error_file and Path(trial.error_file)  # the copy in storage comes later
    lines = path.read_text().strip().splitlines() if path and path.is_file() else []
    return lines[-1] if lines else "no reason was given"


def _last_checkpoint(trial: "Trial", output: Path) -> Path | None:
    path = trial.checkpoint.path if trial.checkpoint else last_result(trial).get(_CHECKPOINT)
    return fetch_part(output, path) if path else None
