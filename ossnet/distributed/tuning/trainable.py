"""Training of a trial: the loop in the trial's own process, or a run of Ray Train inside it."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossnet.distributed.cluster.resources import TrialPlacement
from ossnet.distributed.data.store_handle import StoreHandle
from ossnet.distributed.tracking.actor import MetricBuffer, device_tag
from ossnet.distributed.training.reporters import TuneReporter
from ossnet.distributed.training.trainer import TrainSpec, permanent_failure, trainer
from ossnet.distributed.tuning.storage import WORKERS_FOLDER
from ossnet.distributed.tuning.trial import TrialSpec
from ossnet.metric_names import ERROR, OUT_OF_MEMORY, RESUMED

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from ossnet.distributed.tracking.client import Tracker


@dataclass(frozen=True)
class StudyContext:
    """The values that all trials of a study share."""

    store: StoreHandle
    output: str
    """Path of the study's folder."""
    tracker: "ActorHandle[Tracker]"
    placement: TrialPlacement


def train_in_process(config: dict[str, Any], context: StudyContext) -> dict[str, Any] | None:
    """Run a trial of one worker. What every try would repeat is returned as its result, not raised.

    Args:
        config: a `TrialSpec` as Ray Tune carries it.
    """
    from ossnet.distributed.cluster.gpu_sharing import TrialResources
    from ossnet.training_run import run_training

    spec = TrialSpec.from_dict(config)
    resources = TrialResources()
    _release_memory()
    resources.apply_limits()
    log = MetricBuffer(context.tracker, spec.run)
    try:
        with _checkpoint_folder(spec) as folder:
            log.tag(device_tag() | resources.tag() | ({RESUMED: folder.name} if folder else {}))
            run_training(
                spec.config,
                context.store.open(spec.config.data),
                reporter=TuneReporter(log, gpus=resources.gpus),
                resume_from=folder,
                predicted_gib=spec.predicted_gib,
                chosen=log.chosen,
            )
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
    result = trainer(
        spec.config,
        context.store.open(spec.config.data),
        job=TrainSpec(
            config=spec.config_json,
            store=context.store,
            run=spec.run,
            tracker=context.tracker,
            predicted_gib=spec.predicted_gib,
        ),
        workers=context.placement.workers,
        resources=context.placement.resources,
        name=spec.run,
        storage=Path(context.output) / WORKERS_FOLDER,
        callbacks=[TuneReportCallback()],
    ).fit()
    returned = result.return_value or {}
    return {name: value for name, value in returned.items() if name in {ERROR, OUT_OF_MEMORY}} or None


def _release_memory() -> None:
    """Return to the system what the process's last trial left."""
    import torch

    gc.collect()
    with suppress(AttributeError):  # glibc keeps what each trial's thread had freed
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def _checkpoint_folder(spec: TrialSpec) -> Iterator[Path | None]:
    """The folder of the trial's last checkpoint, of this session or an earlier one, where it has one."""
    from ray import tune

    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        yield None if spec.resume_from is None else Path(spec.resume_from)
        return
    with checkpoint.as_directory() as folder:
        yield Path(folder)
