"""How a study spends its time: first steps are measured on the cluster, then its trials are planned."""

import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ossnet.config import Config
from ossnet.distributed.cluster.resources import TrialPlacement
from ossnet.distributed.data.store_handle import StoreHandle
from ossnet.distributed.tuning.search_space import sample_points
from ossnet.errors import UserError
from ossnet.metric_names import EXPECTED_STEP, EXPECTED_VALIDATION
from ossnet.models import OccupancyConfig
from ossnet.output.duration import format_duration
from ossnet.planning.allocation import TRIAL_START_S, allocate
from ossnet.planning.configure.planner import Planner
from ossnet.planning.study_time import StudyTime

if TYPE_CHECKING:
    from ossnet.distributed.tuning.study import StudySpec

logger = logging.getLogger(__name__)

_SHORTEST_S = 300.0  # a study of less time does without
_SHARE = 0.05  # of a study's time that the measurement may take
_QUERIED = 0.3  # of the voxels that an untrained occupancy network decides, a trained one does at most


@dataclass(frozen=True)
class MeasuredPace:
    """What the parts of a training took."""

    network: str
    step_s: float
    validation_s: float
    """Of all cases of the validation split, as one of them tells, by a trained network."""

    def __str__(self) -> str:
        return (
            f"a step of {self.network} takes {format_duration(self.step_s)}, "
            f"its validation {format_duration(self.validation_s)}"
        )


def measure_pace(spec: "StudySpec", planner: Planner, placement: TrialPlacement) -> MeasuredPace | None:
    """Take the first steps of the space's first configuration where a trial would; Ray is connected.

    Returns:
        None where trials are not planned by time, where it is not worth its time, where there is no free slot
        yet, or where no step came to its end in time: then trials will say why.
    """
    import ray

    time_s = 0.0 if spec.max_time_s is None else spec.began + spec.max_time_s - time.time()
    if spec.resume or not spec.timed or spec.workers > 1 or time_s < _SHORTEST_S:
        return None
    resources, free = placement.resources_for(0.0), ray.available_resources()
    if any(free.get(name, 0) < amount for name, amount in resources.as_ray().items()):
        return None
    try:
        _, changes = next(sample_points(spec.space, count=1, with_first=True))
        config = planner.resolve(changes=changes).config
    except UserError as error:  # nothing fits: the search will say so
        logger.debug(f"no step was measured: {error}")
        return None
    options = {"num_cpus": resources.cpus, "num_gpus": resources.gpus, "max_retries": 0, "max_calls": 1}
    task = ray.remote(**options)(_measure)
    handle = StoreHandle.of(spec.store, config.data)
    running = task.remote(config.to_json(), handle, resources.cpus, _SHARE * time_s)
    try:
        step_s, validation_s = ray.get(running, timeout=_SHARE * time_s)
    except ray.exceptions.GetTimeoutError:
        ray.cancel(running, force=True)
        return None
    except ray.exceptions.RayError as error:
        logger.debug(f"no step was measured: {error}")
        return None
    if not step_s:
        return None
    skips = isinstance(config.model, OccupancyConfig) and config.inference.method == "hierarchical"
    return MeasuredPace(config.model.name, step_s, validation_s * (_QUERIED if skips else 1.0))


def plan_time(spec: "StudySpec", *, slots: int, pace: MeasuredPace | None) -> StudyTime | None:
    """What a study's time is spent on; None where it is not limited.

    Args:
        pace: what a step takes, as far as that was measured.

    Raises:
        UserError: the time is over before a trial could start.
    """
    if spec.max_time_s is None:
        return None
    deadline = spec.began + spec.max_time_s
    remaining = deadline - time.time()
    early_stopping = spec.early_stopping
    plan = allocate(
        max(remaining, 1.0),
        slots=slots,
        step_s=0.0 if pace is None else pace.step_s,
        validation_s=0.0 if pace is None else pace.validation_s,
        start_s=TRIAL_START_S,
        trials=spec.trials,
        reduction_factor=None if early_stopping.algorithm == "none" else early_stopping.reduction_factor,
        brackets=early_stopping.most_brackets,
        refit=spec.refit and spec.timed,
        ensemble=spec.ensemble is not None,
    )
    limit = StudyTime(deadline, plan, timed=spec.timed)
    if not limit.can_start:
        raise UserError(
            f"time limit of {format_duration(spec.max_time_s)}",
            expected="time for one trial",
            found=f"{format_duration(max(remaining, 0.0))} left once the study could start",
            remedy=f"give at least {format_duration(spec.max_time_s - remaining + 60)}",
        )
    return limit


class _StopRunError(Exception):
    """Ends the training: what is asked is known."""


@dataclass
class _FirstExpectation:
    """A reporter that ends a run as soon as it tells what its parts take."""

    found: tuple[float, float] = (0.0, 0.0)

    def step(self, metrics: dict[str, float], step: int) -> None:
        if EXPECTED_STEP in metrics:
            self.found = metrics[EXPECTED_STEP], metrics.get(EXPECTED_VALIDATION, 0.0)
            raise _StopRunError

    def epoch(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """A run of so few steps that it ends first tells nothing."""


def _measure(config_json: str, store: StoreHandle, cpus: int, time_s: float) -> tuple[float, float]:
    """Seconds of a step and of a validation; zero where the run ended before they were known."""
    import torch

    from ossnet.training_run import run_training

    torch.set_num_threads(cpus)
    config = Config.from_json(config_json).replace({"training.max_time_s": time_s})
    reporter = _FirstExpectation()
    with suppress(_StopRunError):
        run_training(config, store.open(config.data), reporter=reporter)
    return reporter.found
