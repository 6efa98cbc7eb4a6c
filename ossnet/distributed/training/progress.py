"""The progress of one training, from the metrics that it logs: a bar on a terminal, lines in a log."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ossnet.distributed.cluster.resources import Workers, describe_workers
from ossnet.metric_names import (
    ELAPSED,
    EPOCH,
    EXPECTED_EPOCH,
    EXPECTED_EPOCHS,
    EXPECTED_STEP,
    EXPECTED_VALIDATION,
    MEMORY,
    STEP,
    STEP_TIME,
    VAL_DICE,
    VALIDATED_CASES,
    WORKERS,
)
from ossnet.output.duration import format_duration
from ossnet.output.progress import Progress, progress
from ossnet.training import TrainingConfig
from ossnet.training.clock import format_pace

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from ossnet.distributed.tracking.client import Tracker

_SHOWN = ("loss/train_epoch", VAL_DICE, STEP_TIME, MEMORY)
_LOSS = "loss/train"


@contextmanager
def training_progress(
    tracker: "ActorHandle[Tracker]",
    run: str,
    training: TrainingConfig,
    workers: Workers = 1,
    *,
    deadline: float | None = None,
) -> Iterator[None]:
    """Show how far a run is while the block runs, with lines on its pace, its workers and on each epoch.

    Args:
        deadline: the Unix time at which the job has to end.
    """
    ended, limit_s = threading.Event(), None if deadline is None else deadline - time.time()
    with progress("training") as shown:
        view = TrainingView(training, shown, workers=workers, limit_s=limit_s)
        thread = threading.Thread(target=_follow, args=(tracker, run, view, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _follow(tracker: "ActorHandle[Tracker]", run: str, view: "TrainingView", ended: threading.Event) -> None:
    import ray

    last = False
    while not last:
        last = ended.wait(1.0)  # and once more after the end
        try:
            metrics = ray.get(tracker.latest.remote(run), timeout=10)
        except ray.exceptions.RayError:
            continue
        view.show(metrics)


class TrainingView:
    """Says what is new in a run's latest metrics.

    Args:
        workers: how many it is to have.
        limit_s: seconds until the job has to end.
    """

    def __init__(
        self,
        training: TrainingConfig,
        shown: Progress,
        *,
        workers: Workers = 1,
        limit_s: float | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._training, self._shown, self._now = training, shown, now
        self._made = self._began = now()
        self._limit_s = limit_s
        self._reported, self._paced = 0.0, False
        self._step = 0.0
        self._workers = workers
        self._best: float | None = None

    def show(self, metrics: Mapping[str, float]) -> None:
        """Take the latest metrics."""
        if not metrics:
            return
        if metrics.get(WORKERS, self._workers) != self._workers:
            self._shown.restart()
            verb = "begins" if isinstance(self._workers, tuple) else "goes on"
            self._workers = int(metrics[WORKERS])
            self._shown.say(f"training {verb} with {describe_workers(self._workers)}")
        if metrics.get(STEP, 0.0) < self._step:  # it went on from a checkpoint, whatever it waited for
            self._shown.restart()
        self._step = metrics.get(STEP, 0.0)
        if EXPECTED_STEP in metrics and not self._paced:
            self._paced = True
            self._shown.say(pace_line(metrics, self._training))
        if metrics.get(EPOCH, 0.0) > self._reported:
            self._reported = metrics[EPOCH]
            self._began = self._now() - metrics.get(ELAPSED, self._now() - self._began)
            self._shown.say(_epoch_line(metrics))
        if VAL_DICE in metrics:
            self._best = max(metrics[VAL_DICE], self._best or 0.0)
        self._shown.set(self._share(metrics), self._place(metrics), self._note(metrics))

    def _share(self, metrics: Mapping[str, float]) -> float:
        if self._limit_s is not None:
            return (self._now() - self._made) / self._limit_s
        if self._training.max_time_s is not None:
            return (self._now() - self._began) / self._training.max_time_s
        return max(self._epochs(metrics), metrics.get(EPOCH, 0.0)) / self._training.epochs

    def _epochs(self, metrics: Mapping[str, float]) -> float:
        """Epochs that the steps so far come to."""
        if EXPECTED_STEP not in metrics or not metrics.get(EXPECTED_EPOCH):
            return 0.0
        return metrics.get(STEP, 0.0) * metrics[EXPECTED_STEP] / metrics[EXPECTED_EPOCH]

    def _place(self, metrics: Mapping[str, float]) -> str:
        current = int(max(self._epochs(metrics), metrics.get(EPOCH, 0.0))) + 1
        epochs = self._training.epochs
        of = f" of {epochs}" if self._training.max_time_s is None else ""
        step_s = metrics.get(STEP_TIME, metrics.get(EXPECTED_STEP))
        rate = "" if step_s is None else f", {format_duration(step_s)} a step"
        return f"epoch {min(current, epochs)}{of}, step {metrics.get(STEP, 0):.0f}{rate}"

    def _note(self, metrics: Mapping[str, float]) -> str:
        parts = [f"loss {metrics[_LOSS]:.3g}"] if _LOSS in metrics else []
        if VAL_DICE in metrics:
            parts.append(f"Dice {metrics[VAL_DICE]:.4f} (best {self._best:.4f})")
        return ", ".join(parts)


def _epoch_line(metrics: Mapping[str, float]) -> str:
    shown = {name: metrics[name] for name in _SHOWN if name in metrics}
    values = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
    cases = f" on {metrics[VALIDATED_CASES]:.0f} cases" if VAL_DICE in shown else ""
    return f"epoch {metrics[EPOCH]:.4g}  {values}{cases}"


def pace_line(metrics: Mapping[str, float], training: TrainingConfig) -> str:
    """One line on what the parts of a run take, from the metrics that it reports after its first steps."""
    return format_pace(
        step_s=metrics[EXPECTED_STEP],
        epoch_s=metrics[EXPECTED_EPOCH],
        validation_s=metrics.get(EXPECTED_VALIDATION),
        fitting=metrics.get(EXPECTED_EPOCHS),
        limits=training,
    )
