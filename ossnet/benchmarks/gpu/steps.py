"""Short trainings on a study of real size: how long a step takes, and how long it waits for data."""

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory

import torch

from ossnet.benchmarks.gpu.results import Problem, StepRow
from ossnet.benchmarks.gpu.sizes import Sizes, TrainingRun
from ossnet.benchmarks.gpu.study import make_study, problem
from ossnet.benchmarks.machine import release_memory
from ossnet.config import Config
from ossnet.data import Store
from ossnet.memory.device import resolve_device
from ossnet.memory.peak import GIB
from ossnet.sampling.loader import StagingPool, load_volumes, loader_threads
from ossnet.sampling.sampler import SampleKey
from ossnet.sampling.volume import Volume
from ossnet.training_run import run_batch_maker, run_order, run_training

PART = "training"
_WARM_UP = 2  # epochs that do not count
_STEPS_ALONE = 4  # of which the host's and the device's part are timed alone


def train(sizes: Sizes, device: str) -> Iterator[StepRow | Problem]:
    """Train each network for some epochs."""
    with TemporaryDirectory(prefix="ossnet-gpu-") as folder:
        store = make_study(folder, sizes.study_shape, sizes.cases)
        for run in sizes.runs:
            try:
                yield _row(run, store, sizes, device)
            except Exception:
                yield problem(PART, f"{run.network}, {run.precision}")
            finally:
                release_memory(resolve_device(device))


class _Metrics:
    """Keeps the metrics of every epoch."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def step(self, metrics: dict[str, float], step: int) -> None:
        """Steps are not kept."""

    def epoch(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Keep the metrics of an epoch."""
        self.epochs.append(metrics)


def _row(run: TrainingRun, store: Store, sizes: Sizes, device: str) -> StepRow:
    config = _configure(run, store, sizes)
    metrics = _Metrics()
    last = run_training(config, store, reporter=metrics, device=device)
    counted = metrics.epochs[_WARM_UP:]
    host_s, draw_s = _alone(config, store, resolve_device(device))
    return StepRow(
        network=run.network,
        shape=sizes.study_shape,
        precision=run.precision,
        batch_size=sizes.batch_size,
        steps_per_batch=run.steps_per_batch,
        device_cache_gib=run.device_cache_gib,
        loader_threads=loader_threads(None),
        step_s=mean(each["time/step_s"] for each in counted),
        wait_fraction=mean(each["time/data_wait_fraction"] for each in counted),
        first_batch_s=metrics.epochs[0]["time/first_batch_s"],
        host_s=host_s,
        draw_s=draw_s,
        predicted_bytes=round(last["memory/predicted_gib"] * GIB),
        allocated_bytes=round(last["memory/peak_allocated_gib"] * GIB),
        reserved_bytes=round(last["memory/peak_reserved_gib"] * GIB),
        loss=last["loss/train_epoch"],
    )


def _configure(run: TrainingRun, store: Store, sizes: Sizes) -> Config:
    changes = {
        "sampling.points": sizes.points,
        "sampling.border_fraction": 0.5,
        "augmentation.probability": 0.5,
        "training.batch_size": sizes.batch_size,
        "training.steps_per_batch": run.steps_per_batch,
        "training.device_cache_gib": run.device_cache_gib,
        "training.precision": run.precision,
        "training.epochs": sizes.epochs,
        "training.checkpoint_every": sizes.epochs,
    }
    return Config.preset(run.network, store).replace(changes).resolve_for(store)


def _alone(config: Config, store: Store, device: torch.device) -> tuple[float, float]:
    """Seconds a volume of the host's part, and of the device's, each with nothing beside."""
    each_once = replace(config.training, steps_per_batch=1)  # a step on the same volumes reads nothing
    steps = list(islice(run_order(store, each_once), _STEPS_ALONE))
    staging = StagingPool(pinned=True) if device.type == "cuda" else None
    host_s = 0.0
    for _ in range(2):  # memory is pinned in the first pass
        began = time.perf_counter()
        volumes = load_volumes(steps, store.case, threads=loader_threads(None), staging=staging)
        read = sum(len(step) for step in volumes)
        host_s = (time.perf_counter() - began) / read
    return host_s, _draw(config, store, steps, device)


def _draw(config: Config, store: Store, steps: list[list[SampleKey]], device: torch.device) -> float:
    make = run_batch_maker(config, store.task, device=device)
    staging = StagingPool(pinned=device.type == "cuda")
    seconds = []
    for step in steps:
        volumes = [staging.stage(Volume.of(store.case(key.case), key)) for key in step]
        began = time.perf_counter()
        make(volumes)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append((time.perf_counter() - began) / len(step))
    return min(seconds)
