"""Reporters that the training loop gets: to Ray Train or Ray Tune, and to the tracker."""

import time
from collections.abc import Mapping
from pathlib import Path

from ossnet.distributed.tracking.actor import MetricBuffer
from ossnet.metric_names import COST, GPU_HOURS, SCORE, VAL_DICE, WORKER_TIME, WORKERS

_HOUR_S = 3600


class TrainReporter:
    """Reports to Ray Train on every rank and, on rank 0, to the tracker.

    Args:
        log: the run's metrics on rank 0, None on other ranks.
        workers: workers of the run, until the next try.
        gpus: GPUs of each worker.
    """

    def __init__(self, log: MetricBuffer | None, *, workers: int, gpus: float) -> None:
        self._log, self._gpus = log, gpus
        self._first = {WORKERS: float(workers)}

    def step(self, metrics: dict[str, float], step: int) -> None:
        """Report the metrics of one optimizer step."""
        if self._log is not None:
            self._log.add(metrics | self._first, step)
            self._first = {}

    def epoch(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Report the metrics of one epoch; this is a barrier for all ranks."""
        import ray.train

        metrics = with_gpu_hours(metrics, self._gpus)
        if self._log is not None:
            self._log.epoch(metrics, delivered=checkpoint is not None)
        folder = None if checkpoint is None else ray.train.Checkpoint.from_directory(checkpoint)
        ray.train.report(dict(metrics), checkpoint=folder)


class TuneReporter:
    """Reports to Ray Tune and the tracker, from the trial's own process.

    Args:
        log: the trial's metrics.
        gpus: GPUs of the trial, or the fraction of one.
    """

    def __init__(self, log: MetricBuffer, *, gpus: float) -> None:
        self._log, self._gpus = log, gpus
        self._start_s = time.process_time()

    def step(self, metrics: dict[str, float], step: int) -> None:
        """Report the metrics of one optimizer step."""
        self._log.add(metrics, step)

    def epoch(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Report the metrics of one epoch; where the scheduler stops the trial, this does not return."""
        from ray import tune

        metrics = with_gpu_hours(metrics, self._gpus) | {COST: time.process_time() - self._start_s}
        # before Ray Tune, which may stop the trial at once
        self._log.epoch(metrics, delivered=checkpoint is not None)
        folder = None if checkpoint is None else tune.Checkpoint.from_directory(checkpoint)
        tune.report(metrics | {SCORE: metrics.get(VAL_DICE, -1.0)}, checkpoint=folder)


def with_gpu_hours(metrics: Mapping[str, float], gpus: float) -> dict[str, float]:
    """An epoch's metrics with the GPU-hours that the run has cost so far; without a GPU as they are.

    Args:
        gpus: GPUs of each worker.
    """
    return {**metrics, **({GPU_HOURS: gpus * metrics[WORKER_TIME] / _HOUR_S} if gpus else {})}
