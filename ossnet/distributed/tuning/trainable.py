"""One trial of a study: the training loop in the trial's own process, or a Ray Train run inside it."""

import ctypes
import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.cluster.resources import TrialPlacement
from ossnet.distributed.tracking.actor import MetricBuffer, device_tag
from ossnet.distributed.training.reporters import TuneReporter
from ossnet.distributed.training.trainer import TrainSpec, permanent_failure, trainer
from ossnet.distributed.tuning.checkpoints import NESTED
from ossnet.metric_names import MISTAKE, OUT_OF_MEMORY, RESUMED

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from ossnet.distributed.tracking.client import Tracker


@dataclass(frozen=True)
class StudyContext:
    """What all trials of a study share."""

    store: str
    output: str
    tracker: "ActorHandle[Tracker]"
    plan: TrialPlacement


def train_in_process(config: dict[str, Any], setup: StudyContext) -> dict[str, Any] | None:
    """A trial of one worker. What every try would repeat is reported as its result, not raised."""
    from ossnet.distributed.cluster.gpu_sharing import TrialResources
    from ossnet.training_run import run_training

    held = TrialResources()
    _release_memory()
    held.apply_limits()
    log = MetricBuffer(setup.tracker, config["run"])
    try:
        with _resumed(config["resume_from"]) as folder:
            log.tag(device_tag() | held.tag() | ({RESUMED: folder.name} if folder else {}))
            run_training(
                Config.from_json(config["config"]),
                Store.open(Path(setup.store)),
                reporter=TuneReporter(log, gpus=held.gpus),
                resume_from=folder,
            )
    except Exception as error:
        end = permanent_failure(error)
        if end is None or (OUT_OF_MEMORY in end and held.shares):  # it goes on with a whole GPU
            raise
        return end
    return None


def train_with_ray(config: dict[str, Any], setup: StudyContext) -> dict[str, Any] | None:
    """A trial of several workers; named by the trial, so that it goes on where it stood if started again."""
    from ray.tune.integration.ray_train import TuneReportCallback

    name = config["run"]
    result = trainer(
        Config.from_json(config["config"]),
        Store.open(Path(setup.store)),
        job=TrainSpec(config=config["config"], store=setup.store, run=name, tracker=setup.tracker),
        workers=setup.plan.workers,
        resources=setup.plan.resources,
        name=name,
        storage=Path(setup.output) / NESTED,
        callbacks=[TuneReportCallback()],
    ).fit()
    end = {
        name: value for name, value in (result.return_value or {}).items() if name in {MISTAKE, OUT_OF_MEMORY}
    }
    return end or None


def _release_memory() -> None:
    """What the process's last trial left: the next one starts with all there is."""
    import torch

    gc.collect()
    with suppress(AttributeError):  # glibc keeps what each trial's thread had freed
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


@contextmanager
def _resumed(earlier: str | None) -> Iterator[Path | None]:
    """The folder of the trial's last checkpoint, where it has one; `earlier` is that of a killed session."""
    from ray import tune

    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        yield None if earlier is None else Path(earlier)
        return
    with checkpoint.as_directory() as folder:
        yield Path(folder)
