"""What the driver of a study does as trials come and go: MLflow runs opened and closed, a line for people."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from ossnet.config import Config
from ossnet.distributed.cluster.oom_patch import HOST_MEMORY, HostOOMMonitor
from ossnet.distributed.tracking.actor import flush
from ossnet.distributed.tracking.client import STOPPED, MetricPoint, RunSpec
from ossnet.distributed.tuning.checkpoints import folder_name
from ossnet.distributed.tuning.search_space import short
from ossnet.distributed.tuning.storage import TuningStudy
from ossnet.distributed.tuning.trial_counts import TrialCounts
from ossnet.metric_names import (
    EARLY,
    EPOCH,
    FINAL,
    INFEASIBLE,
    MEMORY,
    MISTAKE,
    OUT_OF_MEMORY,
    PREDICTED,
    VAL_DICE,
    VARIED,
)

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle
    from ray.tune.experiment import Trial

    from ossnet.distributed.tracking.client import Tracker

logger = logging.getLogger(__name__)


CHECKPOINT = "checkpoint_path"  # Ray's name in the results of a nested run


def title(trial: "Trial") -> str:
    """A trial for people: its number and its network, and its seed where there are several."""
    config = trial.config
    seed = f" seed {config['seed']}" if config["seeds"] > 1 else ""
    return name_of(config["number"], Config.from_json(config["config"]).model.name) + seed


def name_of(number: int, network: str) -> str:
    """A trial for people: its number and its network."""
    return f"{number:03d} {network}"


def trial_folder(trial: "Trial") -> str:
    """A trial's folder."""
    return folder_name(trial.config["number"], trial.config["seed"], trial.trial_id)


def reported(trial: "Trial") -> dict[str, Any]:
    """What a trial said last, if anything: Ray's own property would ask its process, which may be dead."""
    last: dict[str, Any] = trial.run_metadata.last_result
    return last


def last_checkpoint(trial: "Trial") -> Path | None:
    """The folder of a trial's last checkpoint."""
    path = trial.checkpoint.path if trial.checkpoint else reported(trial).get(CHECKPOINT)
    return Path(path) if path else None


class MLflowCallback(Callback):
    """Opens and closes the trials' MLflow runs; a trial that is stopped cannot do so itself."""

    def __init__(
        self,
        tracker: "ActorHandle[Tracker]",
        tags: Mapping[str, str],
        *,
        limit_s: float | None,
        budget_gib: float | None,
        kills: HostOOMMonitor,
    ) -> None:
        self._tracker, self._tags, self._budget_gib = tracker, dict(tags), budget_gib
        self._kills = kills
        self._limit_s, self._began = limit_s, time.monotonic()
        self._calls: list[ObjectRef[Any]] = []
        self._open: dict[str, Trial] = {}
        self.ended: list[Trial] = []
        """In the order of their ends."""
        self.metrics: dict[str, dict[str, float]] = {}
        """The last known value of each metric, by trial: not every result has all."""

    def on_trial_start(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Open, or open again, the trial's run."""
        config = Config.from_json(trial.config["config"])
        spec = RunSpec(
            id=trial.config["run"],
            name=title(trial),
            params=config.flatten(),
            tags=self._tags
            | {
                "network": config.model.name,
                "trial": str(trial.config["number"]),
                "seed": str(trial.config["seed"]),
                VARIED: ",".join(trial.config["varied"]),
            },
        )
        self._open[trial.trial_id] = trial
        self._calls.append(self._tracker.open_run.remote(spec))
        self._calls.append(self._tracker.document.remote(spec.id, config.to_json(), "config.json"))
        predicted = trial.config["predicted_gib"]
        if predicted is not None:
            points = [MetricPoint(PREDICTED, predicted, 0, time.time_ns() // 1_000_000)]
            self._calls.append(self._tracker.log.remote(spec.id, points))

    def on_trial_result(
        self, iteration: int, trials: list["Trial"], trial: "Trial", result: dict[str, Any], **info: Any
    ) -> None:
        """Note the metrics."""
        known = self.metrics.setdefault(trial.trial_id, {})
        known.update({name: value for name, value in result.items() if "/" in name})

    def on_trial_complete(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Close the run of a trial that ended or was stopped by the scheduler."""
        result = reported(trial)
        excess = infeasible(result, self.metrics.get(trial.trial_id, {}), self._budget_gib)
        error = {"error": result[MISTAKE]} if MISTAKE in result else {}
        if excess is not None:
            self._close(trial, "KILLED", {STOPPED: INFEASIBLE, INFEASIBLE: excess, **error})
        elif error:
            self._close(trial, "FAILED", error)
        elif result.get(FINAL):
            self._close(trial, "FINISHED", {}, last_checkpoint(trial))
        else:
            self._close(trial, "KILLED", {STOPPED: EARLY})

    def on_trial_error(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Close the run of a trial that failed for good."""
        if trial.trial_id in self._kills:
            excess = {STOPPED: INFEASIBLE, INFEASIBLE: HOST_MEMORY}
            self._close(trial, "KILLED", excess | {"error": failure(trial)})
        else:
            self._close(trial, "FAILED", {"error": failure(trial)})

    def on_experiment_end(self, trials: list["Trial"], **info: Any) -> None:
        """Close what a time limit or an interruption cut off."""
        up = self._limit_s is not None and time.monotonic() - self._began >= self._limit_s
        for trial in list(self._open.values()):
            self._close(trial, "KILLED", {STOPPED: "time limit" if up else "interrupted"})

    def settle(self) -> None:
        """Wait until all is written."""
        flush(self._calls, self._tracker)

    def _close(
        self, trial: "Trial", status: str, tags: dict[str, str], checkpoint: Path | None = None
    ) -> None:
        if trial in self.ended:
            return
        self._open.pop(trial.trial_id, None)
        self.ended.append(trial)
        self._calls.append(self._tracker.close.remote(trial.config["run"], status, tags, checkpoint))


def infeasible(
    result: Mapping[str, Any], metrics: Mapping[str, float], budget_gib: float | None
) -> str | None:
    """How a training passed the memory budget, if it did."""
    if OUT_OF_MEMORY in result:
        return "out of memory"
    return "measured" if budget_gib is not None and metrics.get(MEMORY, 0.0) > budget_gib else None


@dataclass
class ProgressReporter(Callback):
    """A line for each training that ends, and now and then one for those that run."""

    trials: int
    metrics: Mapping[str, Mapping[str, float]]
    """The last known ones, by trial."""
    notebook: TuningStudy
    budget_gib: float | None
    limit_s: float | None
    kills: HostOOMMonitor
    every_s: float = 20.0
    _told: float = field(default_factory=time.monotonic)
    _began: float = field(default_factory=time.monotonic)
    _ended: int = 0

    def on_trial_result(
        self, iteration: int, trials: list["Trial"], trial: "Trial", result: dict[str, Any], **info: Any
    ) -> None:
        """Say how the running trials do, if that was not said lately."""
        if time.monotonic() - self._told > self.every_s:
            running = [each for each in trials if each.status == each.RUNNING]
            self._told = time.monotonic()
            logger.info("running: " + ", ".join(f"{title(each)} {_epoch(each)}" for each in running))

    def on_trial_complete(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Say how a trial ended."""
        result, known = reported(trial), self.metrics.get(trial.trial_id, {})
        excess = infeasible(result, known, self.budget_gib)
        if MISTAKE in result and excess is None:
            self._end(trial, f"failed: {result[MISTAKE]}")
            return
        dice = f"Dice {known[VAL_DICE]:.4f}" if VAL_DICE in known else "no Dice yet"
        memory = f"{known[MEMORY]:.3f} GiB" if MEMORY in known else "memory not measured"
        took = f"{result.get('time_total_s', 0.0):.0f} s"
        how = "finished" if result.get(FINAL) else "stopped early"
        how = how if excess is None else f"over the memory budget ({excess})"
        self._end(trial, f"{dice}  {memory}  {_epoch(trial)}  {took}  {how}")

    def on_trial_error(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Say why a trial failed."""
        how = HOST_MEMORY if trial.trial_id in self.kills else "failed"
        self._end(trial, f"{how}: {failure(trial)}")

    def _end(self, trial: "Trial", text: str) -> None:
        self._ended += 1
        self._told = time.monotonic()
        params = ", ".join(f"{name}={short(value)}" for name, value in trial.config["params"].items())
        tally = TrialCounts.of(self.notebook)
        logger.info(
            f"{tally.ended}/{self.trials}  {title(trial)} ({params})  {text}  | {tally}{self._left(tally)}"
        )

    def _left(self, tally: TrialCounts) -> str:
        """How long the rest may take, as the ended ones took."""
        took = time.monotonic() - self._began
        left = took / self._ended * max(self.trials - tally.ended, 0)
        left = left if self.limit_s is None else min(left, self.limit_s - took)
        return f", about {left / 60:.0f} min left" if left >= 60 else f", about {max(left, 0):.0f} s left"


def failure(trial: "Trial") -> str:
    """Why a trial failed, in one line."""
    mistake = reported(trial).get(MISTAKE)
    if mistake:
        return str(mistake)
    path = trial.error_file and Path(trial.error_file)  # the copy in storage comes later
    lines = path.read_text().strip().splitlines() if path and path.is_file() else []
    return lines[-1] if lines else "no reason was given"


def _epoch(trial: "Trial") -> str:
    epochs = Config.from_json(trial.config["config"]).training.epochs
    return f"epoch {int(reported(trial).get(EPOCH, 0))}/{epochs}"
