"""Train a network with several numbers of workers, and compare the CPU seconds of a step."""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ossnet.benchmarks.config import ScalingBenchmarkConfig
from ossnet.distributed.benchmark.scaling_results import STATISTIC, ScalingResult, ScalingRow
from ossnet.metric_names import EPOCH
from ossnet.sampling.sampler import check_batch

if TYPE_CHECKING:
    from ray.train.torch import TorchTrainer

    from ossnet.config import Config
    from ossnet.data import Store

_WARM_UP_STEPS = 3  # the second measures memory
_PHANTOM: dict[str, Any] = {"cases": 12, "shape": (48, 48, 32)}  # or fixed costs would be compared


def measure_scaling(
    settings: ScalingBenchmarkConfig,
    folder: Path,
    *,
    command: str,
    progress: Callable[[ScalingRow], None],
) -> ScalingResult:
    """Train with every number of workers in turn, so that a busy machine slows all of them equally.

    Each worker has one CPU and one thread. Where a training has fewer workers, more trainings run side by
    side: so every row has as many busy processes, which share memory and the threads of a core alike.

    Args:
        folder: where the phantom is made, and where Ray keeps the trainings' state while they run.
        command: what is recorded as the command of the result.
        progress: called with each new row.

    Raises:
        UserError: the batch does not suit the workers or the store, or the workers can never be placed.
    """
    from ossnet.data import Store
    from ossnet.distributed.benchmark.phantom import phantom_store
    from ossnet.distributed.cluster.capacity import wait_for_capacity
    from ossnet.distributed.cluster.connection import connect
    from ossnet.distributed.cluster.nodes import nodes
    from ossnet.distributed.cluster.resources import WorkerResources, plan_run
    from ossnet.output.remote.copies import remove_folder

    store = phantom_store(folder, **_PHANTOM) if settings.data is None else Store.open(settings.data)
    most, folder = max(settings.workers), folder.absolute() / "trainings"
    for workers in settings.workers:
        check_batch(len(store.split("training")), settings.batch_size, workers)
    run = _Measurement.plan(settings, store)
    rows = list[ScalingRow]()
    with connect():
        plan_run([{"CPU": node.get("CPU", 0.0)} for node in nodes()], most)
        wait_for_capacity(WorkerResources(1), most, at_most_s=None)
        try:
            for repeat in range(settings.repeats):
                for workers in settings.workers:
                    name = f"{repeat}-{workers}"
                    rows.append(run.row(workers, most // workers, repeat, folder / name))
                    progress(rows[-1])
        finally:
            remove_folder(folder)
    return run.result(settings, command, rows)


@dataclass(frozen=True)
class _Clocks:
    """What the clocks of a process show."""

    cpu_s: float
    wall_s: float


@dataclass(frozen=True)
class _Measurement:
    """What all trainings have in common, and the epochs between whose ends steps are measured."""

    config: "Config"
    store: "Store"
    first_epoch: int
    last_epoch: int
    steps: int

    @classmethod
    def plan(cls, settings: ScalingBenchmarkConfig, store: "Store") -> "_Measurement":
        """Choose the configuration as `train` does on a CPU, and epochs enough for the steps."""
        from ossnet.planning.configure.fingerprint import Fingerprint
        from ossnet.planning.configure.planner import Planner
        from ossnet.training_run import run_start

        given = {"training.batch_size": settings.batch_size}
        planner = Planner(dataset=Fingerprint.of(store), network=settings.model, given=given)
        config = planner.resolve().config

        def end_of(steps: int) -> int:
            return next(epoch for epoch in count(1) if run_start(store, config.training, epoch) >= steps)

        first = end_of(_WARM_UP_STEPS)
        begin = run_start(store, config.training, first)
        last = end_of(begin + settings.steps)
        never = last + 2
        changes = {"epochs": last + 1, "validate_every": never, "checkpoint_every": never}
        config = config.replace({f"training.{name}": value for name, value in changes.items()})
        return cls(config, store, first, last, run_start(store, config.training, last) - begin)

    def row(self, workers: int, trainings: int, repeat: int, folder: Path) -> ScalingRow:
        """Run trainings side by side, and measure them."""
        from ossnet.distributed.cluster.release import released_on_error
        from ossnet.output.interruption import wait_for

        trainers = [self._trainer(workers, folder / str(index)) for index in range(trainings)]
        with released_on_error():
            used = wait_for(lambda: _fit_all(trainers))
        return ScalingRow(
            workers=workers,
            trainings=trainings,
            repeat=repeat,
            cpu_s=fmean(sum(each.cpu_s for each in ranks) for ranks in used) / self.steps,
            wall_s=fmean(max(each.wall_s for each in ranks) for ranks in used) / self.steps,
        )

    def _trainer(self, workers: int, folder: Path) -> "TorchTrainer":
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        from ossnet.distributed.cluster.resources import WorkerResources
        from ossnet.distributed.data.sharding import DeterministicSharding, reference_dataset
        from ossnet.distributed.data.store_handle import StoreHandle
        from ossnet.output.remote.copies import location_of

        return TorchTrainer(
            _worker,
            train_loop_config={
                "config": self.config.to_json(),
                "store": StoreHandle.of(self.store, self.config.data),
                "epochs": (self.first_epoch, self.last_epoch),
            },
            scaling_config=ScalingConfig(
                num_workers=workers, resources_per_worker=WorkerResources(1).as_ray()
            ),
            run_config=RunConfig(name=folder.name, storage_path=location_of(folder.parent)),
            datasets={"references": reference_dataset(self.store, self.config.training)},
            dataset_config=DeterministicSharding(),
        )

    def result(
        self, settings: ScalingBenchmarkConfig, command: str, rows: Sequence[ScalingRow]
    ) -> ScalingResult:
        """The result of these rows."""
        from ossnet.benchmarks.machine import processor
        from ossnet.models import network_from_config
        from ossnet.output.versions import git_commit, versions

        config = self.config.resolve_for(self.store)
        network = network_from_config(config.model)
        shape = "x".join(map(str, config.sampling.working_shape or ()))
        return ScalingResult(
            processor=processor(),
            cpus=os.cpu_count() or 1,
            versions=versions(),
            commit=git_commit(),
            data=f"{len(self.store.split('training'))} training cases of {shape}",
            fingerprint=self.store.manifest.fingerprint,
            model=settings.model,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            batch_size=settings.batch_size,
            steps=self.steps,
            statistic=STATISTIC,
            command=command,
            rows=tuple(rows),
        )


def _fit_all(trainers: Sequence["TorchTrainer"]) -> list[list[_Clocks]]:
    """What each rank of each training used."""
    with ThreadPoolExecutor(len(trainers)) as pool:
        return [result.return_value or [] for result in pool.map(lambda each: each.fit(), trainers)]


class _Measured(Exception):  # noqa: N818 - as it is no error
    """The steps to be measured are over."""


class _Meter:
    """A reporter that reads the clocks of its process at the end of two epochs, and ends the run then."""

    def __init__(self, first_epoch: int, last_epoch: int) -> None:
        self._first_epoch, self._last_epoch = first_epoch, last_epoch
        self._began = self.used = _Clocks(0.0, 0.0)

    def step(self, metrics: dict[str, float], step: int) -> None:
        """Ignore a step: only rank 0 is told of it."""

    def epoch(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Read the clocks where they matter; does not return after the last epoch."""
        now = _Clocks(time.process_time(), time.monotonic())
        if metrics[EPOCH] == self._first_epoch:
            self._began = now
        if metrics[EPOCH] == self._last_epoch:
            self.used = _Clocks(now.cpu_s - self._began.cpu_s, now.wall_s - self._began.wall_s)
            raise _Measured


def _worker(settings: dict[str, Any]) -> list[_Clocks]:
    """Train as one rank of a run; what each rank used."""
    import torch
    from ray.train import get_dataset_shard

    from ossnet.config import Config
    from ossnet.distributed.data.sharding import shard_references
    from ossnet.training.collectives import all_gather
    from ossnet.training_run import run_training

    torch.set_num_threads(1)
    config, handle = Config.from_json(settings["config"]), settings["store"]
    meter = _Meter(*settings["epochs"])
    with suppress(_Measured):
        run_training(
            config,
            handle.open(config.data),
            reporter=meter,
            references=shard_references(get_dataset_shard("references")),
            device="cpu",
        )
    return all_gather([meter.used])
