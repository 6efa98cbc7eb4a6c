"""Training of a trial: the loop in the trial's own process, or a run of Ray Train inside it."""

import ctypes
import gc
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossnet.distributed.cluster.resources import TrialPlacement
from ossnet.distributed.data.store_handle import StoreHandle
from ossnet.distributed.tracking.actor import MetricBuffer, device_tag
from ossnet.distributed.tracking.store import TrackingConfig
from ossnet.distributed.training.reporters import TuneReporter
from ossnet.distributed.training.trainer import TrainSpec, permanent_failure, trainer
from ossnet.distributed.tuning.storage import (
    DATABASE,
    TRIALS_FOLDER,
    WORKERS_FOLDER,
    folder_name,
    latest_checkpoint,
)
from ossnet.distributed.tuning.trial import TrialSpec
from ossnet.errors import StoreError
from ossnet.metric_names import CUT_SHORT, ERROR, FAULTY_NODE, GPUS, OUT_OF_MEMORY, RESUMED
from ossnet.output.remote.copies import folder_here, remove_folder
from ossnet.output.remote.folder import RemoteFolder
from ossnet.planning.margin import MARGIN
from ossnet.training.checkpoint_files import INTERIM, Interim

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from ossnet.distributed.tracking.client import Tracker


_LAST = {ERROR, OUT_OF_MEMORY, CUT_SHORT, FAULTY_NODE}  # what `permanent_failure` returns


@dataclass(frozen=True)
class StudyContext:
    """The values that all trials of a study share."""

    store: StoreHandle
    output: str
    """Where the study's folder lies: its path, or its URL."""
    tracker: "ActorHandle[Tracker]"
    tracking: TrackingConfig
    placement: TrialPlacement


class TrialResources:
    """The CPUs and GPUs that Ray Tune gave to this process's trial, whose GPU others may share."""

    def __init__(self) -> None:
        from ray import tune

        resources = tune.get_context().get_trial_resources().required_resources
        self.cpus = int(resources.get("CPU", 1))
        self.gpus = float(resources.get("GPU", 0))

    @property
    def shares(self) -> bool:
        """Whether other trials may use the same GPU."""
        return 0 < self.gpus < 1

    def tag(self) -> dict[str, str]:
        """The tag of the trial's run that says how much of a GPU it held; empty without a GPU."""
        return {GPUS: f"{self.gpus:g}"} if self.gpus else {}

    def apply_limits(self) -> None:
        """Limit this process to its threads and its part of the GPU's memory: who needs more fails alone."""
        import torch

        torch.set_num_threads(self.cpus)
        if self.gpus and torch.cuda.is_available():
            whole = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
            part = self.gpus - MARGIN.fixed / whole if self.shares else 1.0  # the context is not counted
            torch.cuda.set_per_process_memory_fraction(max(part, 0.0))


def train_in_process(config: dict[str, Any], context: StudyContext) -> dict[str, Any] | None:
    """Run a trial of one worker. What every try would repeat is returned as its result, not raised.

    Args:
        config: a `TrialSpec` as Ray Tune carries it.
    """
    from ossnet.training_run import run_training

    spec = TrialSpec.from_dict(config)
    resources = TrialResources()
    _release_memory()
    resources.apply_limits()
    log = MetricBuffer(context.tracker, spec.run)
    output = folder_here(context.output)
    interim = _interim(spec, output, log)
    try:
        _check_shared(output)
        with _checkpoint_folder(spec, output) as folder:
            log.tag(device_tag() | resources.tag() | ({RESUMED: folder.name} if folder else {}))
            run_training(
                spec.config,
                context.store.open(spec.config.data),
                reporter=TuneReporter(log, gpus=resources.gpus),
                resume_from=folder,
                predicted_gib=spec.predicted_gib,
                chosen=log.chosen,
                deadline=spec.deadline,
                run=spec.run,
                interim=interim,
                report_lost=log.lost,
                pictures=log.pictures,
                origin=context.tracking.origin(spec.run),
            )
        remove_folder(interim.folder)
    except Exception as error:
        result = permanent_failure(error)
        if result is None or (OUT_OF_MEMORY in result and resources.shares):  # resumed with a whole GPU
            raise
        return result
    return None


def train_with_ray(config: dict[str, Any], context: StudyContext) -> dict[str, Any] | None:
    """Run a trial of several workers by Ray Train; the run's name lets it resume if it is started again.

    Args:
        config: a `TrialSpec` as Ray Tune carries it.
    """
    from ray.tune.integration.ray_train import TuneReportCallback

    spec = TrialSpec.from_dict(config)
    storage = folder_here(context.output) / WORKERS_FOLDER
    result = trainer(
        spec.config,
        context.store.open(spec.config.data),
        job=TrainSpec(
            config=spec.config_json,
            store=context.store,
            run=spec.run,
            tracker=context.tracker,
            tracking=context.tracking,
            predicted_gib=spec.predicted_gib,
            deadline=spec.deadline,
        ),
        workers=context.placement.workers,
        resources=context.placement.resources,
        name=spec.run,
        storage=storage,
        callbacks=[TuneReportCallback()],
        avoid=spec.avoid,
    ).fit()
    remove_folder(storage / spec.run / INTERIM)
    returned = result.return_value or {}
    return {name: value for name, value in returned.items() if name in _LAST} or None


def _check_shared(output: Path) -> None:
    """Reject a node that came after the start and has not the study's folder.

    Raises:
        StoreError: so that the trial starts again, on another node.
    """
    if RemoteFolder.holding(output) is None and not (output / DATABASE).is_file():
        raise StoreError(
            f"{output} on node {socket.gethostname()}",
            expected="the study's folder",
            found=f"no {DATABASE} in it",
            remedy="give an --output on a disk that all nodes share, or one on object storage (s3://...)",
        )


def _release_memory() -> None:
    """Return to the system what the process's last trial left."""
    import torch

    gc.collect()
    with suppress(AttributeError):  # glibc keeps what each trial's thread had freed
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _interim(spec: TrialSpec, output: Path, log: MetricBuffer) -> Interim:
    """Checkpoints between two reports, beside those that Ray Tune keeps."""
    from ray import tune

    trial = folder_name(spec.number, spec.seed, str(tune.get_context().get_trial_id()))
    folder = output / TRIALS_FOLDER / trial / INTERIM
    return Interim(folder, spec.config.training.checkpoint_minutes, log.save_requested, log.deliver)


@contextmanager
def _checkpoint_folder(spec: TrialSpec, output: Path) -> Iterator[Path | None]:
    """The folder of the trial's last checkpoint, of this session or an earlier one, where it has one."""
    from ray import tune

    checkpoint, last = tune.get_checkpoint(), latest_checkpoint(output, spec.number, spec.seed, spec.run)
    if last is not None:
        yield last
        return
    if checkpoint is None:
        yield None if spec.resume_from is None else Path(spec.resume_from)
        return
    with checkpoint.as_directory() as folder:
        yield Path(folder)
