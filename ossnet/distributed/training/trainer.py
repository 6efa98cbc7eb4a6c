"""Ray Train around the training loop: a run of one or more workers that outlives the loss of any of them."""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossnet import schemas
from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.cluster.nodes import avoiding
from ossnet.distributed.cluster.release import released_on_error
from ossnet.distributed.cluster.resources import WorkerResources, Workers, fewest, most
from ossnet.distributed.data.sharding import DeterministicSharding, reference_dataset, shard_references
from ossnet.distributed.data.store_handle import StoreHandle
from ossnet.distributed.tracking.actor import MetricBuffer, device_tag
from ossnet.distributed.tracking.last_save import saved_on_interrupt
from ossnet.distributed.tracking.store import TrackingConfig
from ossnet.distributed.training.reporters import TrainReporter
from ossnet.errors import OutOfMemory, StoreError, TimeTooShort, UserError
from ossnet.memory.peak import GIB
from ossnet.metric_names import (
    CUT_SHORT,
    ELAPSED,
    EPOCH,
    ERROR,
    FAULTY_NODE,
    OUT_OF_MEMORY,
    RESUMED,
    VAL_DICE,
    metrics_summary,
)
from ossnet.output.atomic_write import atomic_write, disk_error, disk_fault
from ossnet.output.interruption import Overdue, wait_for
from ossnet.output.remote.copies import fetch_folder, folder_here, keep, location_of, remove_folder
from ossnet.output.waiting import PATIENCE
from ossnet.planning.peak import neediest
from ossnet.sampling.sampler import check_batch
from ossnet.training.checkpoint import is_complete, is_of, load_state
from ossnet.training.checkpoint_files import (
    CHECKPOINT,
    INTERIM,
    Interim,
    checkpoints_in,
    replace_checkpoint,
)

if TYPE_CHECKING:
    from ray.actor import ActorHandle
    from ray.train import Result, UserCallback
    from ray.train.torch import TorchTrainer

    from ossnet.distributed.tracking.client import Tracker

_RUN = "train"
_OVERDUE_S = 20.0  # after which a run that should have ended by itself is given up
_MAX_FAILURES = 3  # how often a run starts again from its checkpoint when it has lost a worker
_MAX_FAILED_STARTS = 2  # Ray's own default tries to place workers forever
_MAX_LOST_NODES = 20  # where nodes come and go; those that are drained first, as spot ones, do not count
_MAX_STALE_STARTS = 100  # on nodes that have just gone
_RESIZE_EVERY_S = 30.0  # between two looks whether there is room for more workers, which start all anew
_START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"
_ELASTIC_START_TIMEOUT_S = 10.0  # Ray may know of a lost node up to 20 s later, and waits for it until then


@dataclass(frozen=True)
class TrainSpec:
    """A run as its workers get it."""

    config: str
    """The configuration as JSON."""
    store: StoreHandle
    run: str
    """The run's id in the tracker."""
    tracker: "ActorHandle[Tracker]"
    tracking: TrackingConfig
    predicted_gib: float | None = None
    """Predicted peak of a training step of one worker; None where it has yet to be predicted."""
    deadline: float | None = None
    """Unix time by which the workers have to have ended."""
    grace_s: float = PATIENCE.grace_s
    """Seconds that an interrupted run has to save a checkpoint."""


@dataclass(frozen=True)
class TrainResult:
    """The best checkpoint of a finished run and its metrics."""

    metrics: dict[str, float]
    checkpoint: Path

    def summary(self) -> dict[str, object]:
        """Human-readable rows."""
        return {**metrics_summary(self.metrics), "checkpoint": self.checkpoint}

    def to_dict(self) -> dict[str, Any]:
        """The result as `--json` prints it."""
        return {"metrics": self.metrics, "checkpoint": self.checkpoint}


def fit(
    config: Config,
    store: Store,
    *,
    output: Path,
    job: TrainSpec,
    workers: Workers,
    resources: WorkerResources,
    wait_at_most_s: float | None = None,
) -> TrainResult:
    """Train with Ray Train; a run that is already in `output` continues from its last checkpoint.

    `output` gets `config.json`, Ray's own run folder and, at the end, `checkpoint`: the best by validation
    Dice of those kept.

    Args:
        wait_at_most_s: seconds to wait for nodes with room for the workers; None: without end.

    Raises:
        UserError: the store and the configuration do not go together, the loss is not finite, or nodes were
            waited for in vain.
    """
    from ossnet.distributed.cluster.capacity import RunCapacity  # with Ray Tune, which workers do without

    cases = store.split("training", fold=config.training.fold)
    check_batch(len(cases), config.training.batch_size, most(workers))
    output.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("run.json", json.dumps({"schema": schemas.RUN, "id": job.run})),
        ("config.json", config.to_json()),
    ):
        atomic_write(output / name, text)
        keep(output / name)
    run = trainer(config, store, job=job, workers=workers, resources=resources, name=_RUN, storage=output)
    until = None if job.deadline is None else job.deadline + _OVERDUE_S
    room = RunCapacity(resources, fewest(workers), at_most_s=wait_at_most_s)
    try:
        with released_on_error():
            folders = {job.run: lambda: checkpoints_in(output / _RUN)}
            with saved_on_interrupt(job.tracker, job.grace_s, folders):
                # in a thread: or Ray would handle Ctrl-C itself
                result = wait_for(run.fit, until=until, meanwhile=room.check)
    except Overdue:
        return _keep_last(output / _RUN, output / CHECKPOINT)
    best = _keep_best(result, output / CHECKPOINT)
    remove_folder(output / _RUN / INTERIM)
    return best


def trainer(
    config: Config,
    store: Store,
    *,
    job: TrainSpec,
    workers: Workers,
    resources: WorkerResources,
    name: str,
    storage: Path,
    callbacks: Sequence["UserCallback"] = (),
    avoid: Sequence[str] = (),
) -> "TorchTrainer":
    """Make a trainer for one run; with the same `name` and `storage` it continues where it was left.

    Where the number of workers may change, all start anew from the last checkpoint when it does.

    Args:
        avoid: Ray's ids of nodes on which no worker is to run.
    """
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    failures, failed_starts = _MAX_FAILURES, _MAX_FAILED_STARTS
    if isinstance(workers, tuple):
        failures, failed_starts = _MAX_LOST_NODES, _MAX_STALE_STARTS
        os.environ.setdefault(_START_TIMEOUT, str(_ELASTIC_START_TIMEOUT_S))
    return TorchTrainer(
        _worker,
        train_loop_config={
            "job": job,
            "folder": location_of(storage / name),
            "cpus": resources.cpus,
            "gpus": resources.gpus,
            "neediest": neediest(config.resolve_for(store), fewest(workers), most(workers)),
        },
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=resources.gpus > 0,
            resources_per_worker=resources.as_ray(),
            label_selector=avoiding(avoid),
            elastic_resize_monitor_interval_s=_RESIZE_EVERY_S,
        ),
        run_config=RunConfig(
            name=name,
            storage_path=location_of(storage),
            callbacks=list(callbacks),
            failure_config=FailureConfig(max_failures=failures, controller_failure_limit=failed_starts),
            checkpoint_config=CheckpointConfig(num_to_keep=2, checkpoint_score_attribute=VAL_DICE),
        ),
        datasets={"references": reference_dataset(store, config.training)},
        dataset_config=DeterministicSharding(),
    )


def _worker(settings: dict[str, Any]) -> dict[str, Any]:
    """Train as one rank of a run. A failure that every try would repeat is returned, not raised."""
    import torch
    from ray.train import get_context, get_dataset_shard
    from ray.train.torch import get_device

    from ossnet.training_run import run_training

    job: TrainSpec = settings["job"]
    torch.set_num_threads(settings["cpus"])
    context = get_context()
    log = MetricBuffer(job.tracker, job.run) if context.get_world_rank() == 0 else None
    interim_folder = folder_here(settings["folder"]) / INTERIM
    try:
        with _resumed(interim_folder, job.run) as folder:
            if log is not None:
                log.tag(device_tag() | ({RESUMED: folder.name} if folder else {}))
            config = Config.from_json(job.config)
            interim = None
            if log is not None:
                minutes = config.training.checkpoint_minutes
                interim = Interim(interim_folder, minutes, log.save_requested, log.deliver)
            return run_training(
                config,
                job.store.open(config.data),
                reporter=TrainReporter(log, workers=context.get_world_size(), gpus=settings["gpus"]),
                references=shard_references(get_dataset_shard("references")),
                resume_from=folder,
                device=str(get_device()),
                predicted_gib=job.predicted_gib,
                neediest_workers=settings["neediest"],
                chosen=lambda values: None if log is None else log.chosen(values),
                deadline=job.deadline,
                run=job.run,
                interim=interim,
                pictures=None if log is None else log.pictures,
                origin=job.tracking.origin(job.run),
                report_lost=lambda case, why: None if log is None else log.lost(case, why),
            )
    except Exception as error:
        end = permanent_failure(error)
        if end is None:
            raise
        return end


def permanent_failure(error: Exception) -> dict[str, str | float] | None:
    """The last result of a run that every further try here would repeat; None where one may succeed."""
    if isinstance(error, TimeTooShort):
        return {ERROR: str(error), CUT_SHORT: 1.0}
    if isinstance(error, OutOfMemory):
        return {ERROR: str(error), OUT_OF_MEMORY: _capacity_gib()}
    if isinstance(error, StoreError):
        return {ERROR: str(error), FAULTY_NODE: _node()}
    if disk_fault(error):
        return {ERROR: str(disk_error(error)), FAULTY_NODE: _node()}
    return {ERROR: str(error)} if isinstance(error, UserError | FloatingPointError) else None


def _node() -> str:
    """Ray's id of this node."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _capacity_gib() -> float:
    """All memory of this process's device, free or not."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory / GIB
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB


@contextmanager
def _resumed(interim: Path, run: str) -> Iterator[Path | None]:
    """The folder of the run's last checkpoint, reported or between two reports, where it has one."""
    from ray.train import get_checkpoint

    checkpoint = get_checkpoint()
    fetch_folder(interim)
    between = interim if interim.is_dir() and is_complete(interim) and is_of(interim, run) else None
    if checkpoint is None:
        yield between
        return
    with checkpoint.as_directory() as folder:
        reported = Path(folder)
        yield between if between is not None and _step(between) > _step(reported) else reported


def _step(checkpoint: Path) -> int:
    return int(load_state(checkpoint)["progress"]["step"])


def _keep_last(folder: Path, target: Path) -> TrainResult:
    """Copy the best checkpoint of a run that did not end in time.

    Raises:
        TimeTooShort: it has none.
    """
    found = [each for each in checkpoints_in(folder) if is_complete(each)]
    states = {each: load_state(each) for each in found}
    scored = [each for each in found if states[each].get("dice") is not None]
    last = max(found, key=lambda each: states[each]["progress"]["step"], default=None)
    best = max(scored, key=lambda each: float(states[each]["dice"]), default=last)
    if best is None:
        raise TimeTooShort(
            "time limit",
            expected="time to start, for one step and one validated case",
            found="no checkpoint when it was over",
            remedy="give a longer one, or a machine that is less busy",
        )
    with replace_checkpoint(target) as aside:
        shutil.copytree(best, aside, dirs_exist_ok=True)
    progress, dice = states[best]["progress"], states[best].get("dice")
    metrics = {EPOCH: float(progress["epoch"]), ELAPSED: progress["elapsed_s"]}
    return TrainResult(metrics=metrics | ({} if dice is None else {VAL_DICE: dice}), checkpoint=target)


def _keep_best(result: "Result", target: Path) -> TrainResult:
    """Copy the best checkpoint by validation Dice (without validation, the last) to its place."""
    error = (result.return_value or {}).get(ERROR)
    if error:
        _remove_unfinished(result)
        raise UserError(error)
    scored = [each for each in result.best_checkpoints if VAL_DICE in each[1]]
    last = max(result.best_checkpoints, key=lambda each: each[1][EPOCH])
    checkpoint, metrics = max(scored, key=lambda each: each[1][VAL_DICE], default=last)
    with replace_checkpoint(target) as folder:
        checkpoint.to_directory(str(folder))
    return TrainResult(metrics=metrics, checkpoint=target)


def _remove_unfinished(result: "Result") -> None:
    """Remove what Ray began to store as a checkpoint and did not finish, as where the disk is full."""
    finished = [checkpoint for checkpoint, _ in result.best_checkpoints or ()]
    names = {Path(each.path).name for each in [*finished, result.checkpoint] if each is not None} | {INTERIM}
    for folder in Path(result.path).glob("checkpoint_*"):
        if folder.is_dir() and folder.name not in names:
            shutil.rmtree(folder)
