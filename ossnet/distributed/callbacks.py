"""What the driver of a study does as trials come and go: MLflow runs opened and closed, a line for people."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from ossnet.config import Config
from ossnet.distributed.console import say
from ossnet.distributed.names import EARLY, EPOCH, FINAL, INFEASIBLE, MEMORY, MISTAKE, SCORE, VARIED
from ossnet.distributed.runs import settle
from ossnet.distributed.tracking import STOPPED, RunSpec

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle
    from ray.tune.experiment import Trial

    from ossnet.distributed.tracking import Tracker

CHECKPOINT = "checkpoint_path"  # Ray's name in the results of a nested run


def title(trial: "Trial") -> str:
    """A trial for people: its number and its network."""
    return f"{trial.config['number']:03d} {Config.from_json(trial.config['config']).model.name}"


def folder_name(trial: "Trial") -> str:
    """A trial's folder."""
    return f"{trial.config['number']:03d}-{trial.trial_id}"


def last_checkpoint(trial: "Trial") -> Path | None:
    """The folder of a trial's last checkpoint."""
    path = trial.checkpoint.path if trial.checkpoint else (trial.last_result or {}).get(CHECKPOINT)
    return Path(path) if path else None


class Bookkeeper(Callback):
    """Opens and closes the trials' MLflow runs; a trial that is stopped cannot do so itself."""

    def __init__(
        self, tracker: "ActorHandle[Tracker]", tags: Mapping[str, str], *, limit_s: float | None
    ) -> None:
        self._tracker, self._tags = tracker, dict(tags)
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
            id=trial.trial_id,
            name=title(trial),
            params=config.flatten(),
            tags=self._tags
            | {
                "network": config.model.name,
                "trial": str(trial.config["number"]),
                VARIED: ",".join(trial.config["varied"]),
            },
        )
        self._open[trial.trial_id] = trial
        self._calls.append(self._tracker.open_run.remote(spec))
        self._calls.append(self._tracker.document.remote(spec.id, config.to_json(), "config.json"))

    def on_trial_result(
        self, iteration: int, trials: list["Trial"], trial: "Trial", result: dict[str, Any], **info: Any
    ) -> None:
        """Note the metrics."""
        known = self.metrics.setdefault(trial.trial_id, {})
        known.update({name: value for name, value in result.items() if "/" in name})

    def on_trial_complete(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Close the run of a trial that ended or was stopped by the scheduler."""
        result = trial.last_result or {}
        if MISTAKE in result:
            tags = {INFEASIBLE: result[INFEASIBLE]} if INFEASIBLE in result else {}
            self._close(trial, "FAILED", {"error": result[MISTAKE], **tags})
        elif result.get(FINAL):
            self._close(trial, "FINISHED", {}, last_checkpoint(trial))
        else:
            self._close(trial, "KILLED", {STOPPED: EARLY})

    def on_trial_error(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Close the run of a trial that failed for good."""
        self._close(trial, "FAILED", {"error": failure(trial)})

    def on_experiment_end(self, trials: list["Trial"], **info: Any) -> None:
        """Close what a time limit or an interruption cut off."""
        up = self._limit_s is not None and time.monotonic() - self._began >= self._limit_s
        for trial in list(self._open.values()):
            self._close(trial, "KILLED", {STOPPED: "time limit" if up else "interrupted"})

    def settle(self) -> None:
        """Wait until all is written."""
        settle(self._calls, self._tracker)

    def _close(
        self, trial: "Trial", status: str, tags: dict[str, str], checkpoint: Path | None = None
    ) -> None:
        if trial in self.ended:
            return
        self._open.pop(trial.trial_id, None)
        self.ended.append(trial)
        self._calls.append(self._tracker.close.remote(trial.trial_id, status, tags, checkpoint))


@dataclass
class Progress(Callback):
    """A line for each trial that ends, and now and then one for those that run."""

    trials: int
    metrics: Mapping[str, Mapping[str, float]]
    """The last known ones, by trial."""
    every_s: float = 20.0
    _ended: int = 0
    _best: tuple[float, str] | None = None
    _told: float = field(default_factory=time.monotonic)

    def on_trial_result(
        self, iteration: int, trials: list["Trial"], trial: "Trial", result: dict[str, Any], **info: Any
    ) -> None:
        """Say how the running trials do, if that was not said lately."""
        if time.monotonic() - self._told > self.every_s:
            running = [each for each in trials if each.status == each.RUNNING and each.last_result]
            self._told = time.monotonic()
            say("running: " + ", ".join(f"{title(each)} {_epoch(each)}" for each in running))

    def on_trial_complete(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Say how a trial ended."""
        result = trial.last_result or {}
        if MISTAKE in result:
            self._end(trial, f"failed: {result[MISTAKE]}")
            return
        known = self.metrics.get(trial.trial_id, {})
        score = known.get(SCORE)
        if result.get(FINAL) and score is not None and (self._best is None or score > self._best[0]):
            self._best = (score, title(trial))
        dice = "no Dice yet" if score is None else f"Dice {score:.4f}"
        memory = f"{known[MEMORY]:.3f} GiB" if MEMORY in known else "memory not measured"
        took = f"{result.get('time_total_s', 0.0):.0f} s"
        how = "finished" if result.get(FINAL) else "stopped early"
        self._end(trial, f"{dice}  {memory}  {_epoch(trial)}  {took}  {how}")

    def on_trial_error(self, iteration: int, trials: list["Trial"], trial: "Trial", **info: Any) -> None:
        """Say why a trial failed."""
        self._end(trial, f"failed: {failure(trial)}")

    def _end(self, trial: "Trial", text: str) -> None:
        self._ended += 1
        params = ", ".join(f"{name}={value}" for name, value in trial.config["params"].items())
        best = f"  | best {self._best[0]:.4f} by {self._best[1]}" if self._best else ""
        self._told = time.monotonic()
        say(f"{self._ended}/{self.trials}  {title(trial)} ({params})  {text}{best}")


def failure(trial: "Trial") -> str:
    """Why a trial failed, in one line."""
    mistake = (trial.last_result or {}).get(MISTAKE)
    if mistake:
        return str(mistake)
    path = trial.error_file and Path(trial.error_file)  # the copy in storage comes later
    lines = path.read_text().strip().splitlines() if path and path.is_file() else []
    return lines[-1] if lines else "no reason was given"


def _epoch(trial: "Trial") -> str:
    epochs = Config.from_json(trial.config["config"]).training.epochs
    return f"epoch {int((trial.last_result or {}).get(EPOCH, 0))}/{epochs}"
