"""Runs from where training happens: drivers open and close them, workers feed them, none waits."""

import logging
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossnet.distributed.tracking.client import MetricPoint, RunSpec, Tracker, TrackingConfig
from ossnet.errors import UserError
from ossnet.metric_names import STOP_REASON

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

logger = logging.getLogger(__name__)


_PACKAGES = ("ossnet", "torch", "monai", "ray", "optuna", "mlflow", "numpy")
_TIMEOUT_S = 60
_INTERNAL = {"step", "final"}  # of an epoch's metrics: for the scheduler, not for people


@dataclass
class RunResult:
    """What a run is closed with; its block fills it in."""

    tags: dict[str, str] = field(default_factory=dict)
    checkpoint: Path | None = None


@contextmanager
def start_tracker(tracking: TrackingConfig, study: str | None = None) -> Iterator["ActorHandle[Tracker]"]:
    """A tracker in a process of its own on this node, its store made before any worker starts.

    The process ends with the block; what was opened with `mlflow_run` inside is written by then. Where it is
    killed, as when memory runs out, another one takes its place and does again what was not done.

    Args:
        study: the id of the run that is the parent of all others.

    Raises:
        UserError: the store cannot be used.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    settings = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    actor = ray.remote(num_cpus=0)(Tracker).options(
        scheduling_strategy=here,
        runtime_env={"env_vars": settings} if settings else None,
        max_restarts=-1,
        max_task_retries=-1,
    )
    tracker = actor.remote(tracking, study)
    try:
        ray.get(tracker.experiment.remote(), timeout=_TIMEOUT_S)
    except ray.exceptions.GetTimeoutError as error:
        msg = f"MLflow store {tracking.uri} does not answer within {_TIMEOUT_S} s: check MLFLOW_TRACKING_URI"
        raise UserError(msg) from error
    except ray.exceptions.RayError as error:
        reason = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
        msg = f"MLflow store {tracking.uri}: {reason}: check MLFLOW_TRACKING_URI"
        raise UserError(msg) from error
    try:
        yield tracker
    finally:
        ray.kill(tracker)


@contextmanager
def mlflow_run(
    tracker: "ActorHandle[Tracker]", spec: RunSpec, documents: Mapping[str, str]
) -> Iterator[RunResult]:
    """Keep a run open inside the block; it ends as the block does, and leaving waits until all is written.

    Args:
        documents: texts by file name, kept with the run.
    """
    calls: list[ObjectRef[Any]] = [tracker.open_run.remote(spec)]
    calls += [tracker.document.remote(spec.id, text, name) for name, text in documents.items()]
    ending = RunResult()
    try:
        yield ending
    except KeyboardInterrupt:
        calls.append(tracker.close.remote(spec.id, "KILLED", {STOP_REASON: "interrupted"}))
        raise
    except BaseException as error:
        calls.append(tracker.close.remote(spec.id, "FAILED", {"error": str(error)}))
        raise
    else:
        calls.append(tracker.close.remote(spec.id, "FINISHED", ending.tags, ending.checkpoint))
    finally:
        settle(calls, tracker)


def settle(calls: "list[ObjectRef[Any]]", tracker: "ActorHandle[Tracker]") -> None:
    """Wait until these calls are done and all metrics are written, and say what could not be."""
    import ray

    failures = set()
    for call in [*calls, tracker.flush.remote()]:
        try:
            ray.get(call)
        except ray.exceptions.RayError as error:
            failures.add(str(error).strip().splitlines()[-1])
    for reason in sorted(failures):
        logger.info(f"warning: MLflow misses something: {reason}")


class MetricBuffer:
    """One run as its training process sees it: metrics are handed over in batches, without waiting."""

    def __init__(self, tracker: "ActorHandle[Tracker]", run: str, *, every_s: float = 2.0) -> None:
        self._tracker, self._run, self._every_s = tracker, run, every_s
        self._points: list[MetricPoint] = []
        self._sent = time.monotonic()

    def add(self, metrics: Mapping[str, float], step: int) -> None:
        """Note metrics of a step."""
        now = time.time_ns() // 1_000_000
        self._points += [MetricPoint(name, float(value), step, now) for name, value in metrics.items()]
        if time.monotonic() - self._sent > self._every_s:
            self.send()

    def epoch(self, metrics: Mapping[str, float]) -> None:
        """Note an epoch's metrics at the step it ended with, and hand everything over."""
        told = {name: value for name, value in metrics.items() if name not in _INTERNAL}
        self.add(told, int(metrics["step"]))
        self.send()

    def tag(self, tags: Mapping[str, str]) -> None:
        """Add tags to the run."""
        self._tracker.tag.remote(self._run, dict(tags))

    def send(self) -> None:
        """Hand over what has gathered."""
        if self._points:
            self._tracker.log.remote(self._run, self._points)
        self._points, self._sent = [], time.monotonic()


def version_tags() -> dict[str, str]:
    """The git commit, where there is one, and the versions of what results depend on."""
    tags = {f"version/{name}": version(name) for name in _PACKAGES}
    tags["version/python"] = platform.python_version()
    commit = _git_commit()
    return tags | ({"mlflow.source.git.commit": commit} if commit else {})


def device_tag() -> dict[str, str]:
    """The device of this process."""
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu ({platform.machine()})"
    return {"device": name}


def _git_commit() -> str | None:
    package = Path(str(files("ossnet")))
    command = ["git", "rev-parse", "--show-toplevel", "HEAD"]
    try:
        done = subprocess.run(command, cwd=package, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    root, commit = done.stdout.split("\n")[:2]
    return commit if Path(root) == package.parent else None  # an installed copy may lie in another repository
