"""The tracker as an actor: drivers open and close runs, workers send metrics, and training never waits."""

import contextlib
import logging
import os
import platform
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossnet.distributed.tracking.client import MetricPoint, RunSpec, Tracker
from ossnet.distributed.tracking.machine_use import MachineUse
from ossnet.distributed.tracking.outbox import NO_ANSWER, one_line
from ossnet.distributed.tracking.preemption import saved_before_loss
from ossnet.distributed.tracking.store import TrackingConfig
from ossnet.errors import UserError
from ossnet.metric_names import CUT_SHORT, FINAL, SHARE, STOP_REASON, WORKER_TIME
from ossnet.output.versions import git_commit, versions

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.actor import ActorHandle

logger = logging.getLogger(__name__)

JOURNAL = ".mlflow-journal"
"""The file in the output of a job with what MLflow does not have yet."""
_TIMEOUT_S = 360  # the jobs of an array make their store one after the other
_EVERY_S, _ANSWER_S = 1.0, 10  # between two looks for cases that were left out, and for an answer
_FILES, _SAVES = "files", "saves"  # methods of these groups run beside the others
_DELIVERY_S = 5.0
_ASK_EVERY_S = 0.5  # whether a checkpoint is asked for
_INTERNAL = {"step", FINAL, CUT_SHORT, SHARE, WORKER_TIME}  # of an epoch's metrics; not logged


@dataclass
class RunResult:
    """The tags and the checkpoint that a run is closed with; the block of `mlflow_run` sets them."""

    tags: dict[str, str] = field(default_factory=dict)
    checkpoint: Path | None = None


@contextlib.contextmanager
def start_tracker(
    tracking: TrackingConfig, output: Path, study: str | None = None
) -> Iterator["ActorHandle[Tracker]"]:
    """Start a tracker in a process of its own on this node; its store is made before any worker starts.

    The process ends with the block; what was opened with `mlflow_run` inside is written by then. Where it is
    killed, as when memory runs out, another one replaces it, repeats the calls that were not done, and writes
    what still waited: a journal in `output` has it. Where the job is killed as well, or ends while the store
    is away, the next one with this output writes it.

    Args:
        output: the folder of the run or the study.
        study: the id of the run that is the parent of all others.

    Raises:
        UserError: the store cannot be used.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    variables = {name: value for name, value in os.environ.items() if name.startswith("MLFLOW_")}
    for method in (Tracker.log_text, Tracker.log_picture, Tracker.log_checkpoint):
        ray.method(concurrency_group=_FILES)(method)
    ray.method(concurrency_group=_SAVES)(Tracker.saves_requested)
    ray.method(concurrency_group=_SAVES)(Tracker.request_save)
    actor = ray.remote(num_cpus=0, concurrency_groups={_FILES: 1, _SAVES: 1})(Tracker).options(
        scheduling_strategy=here,
        max_restarts=-1,
        max_task_retries=-1,
    )
    # Not as a runtime environment: it may hold passwords, and Ray writes that to a log that others can read.
    tracker = actor.remote(tracking, study, output.absolute() / JOURNAL, variables)
    try:
        ray.get(tracker.experiment.remote(), timeout=_TIMEOUT_S)
    except ray.exceptions.GetTimeoutError as error:
        raise _unusable(tracking, f"none within {_TIMEOUT_S} s") from error
    except ray.exceptions.RayError as error:
        raise _start_error(tracking, error) from error
    try:
        with _report_lost(tracker), saved_before_loss(tracker):
            yield tracker
    finally:
        ray.kill(tracker)


@contextlib.contextmanager
def _report_lost(tracker: "ActorHandle[Tracker]") -> Iterator[None]:
    """Log each case that a run leaves out, while the block runs, and at its end how many they are."""
    ended, logged = threading.Event(), dict[str, str]()
    thread = threading.Thread(target=_log_lost, args=(tracker, logged, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        if logged:
            cases = "a case was" if len(logged) == 1 else f"{len(logged)} cases were"
            logger.warning(f"warning: {cases} left out, as above: {', '.join(sorted(logged))}")


def _log_lost(tracker: "ActorHandle[Tracker]", logged: dict[str, str], ended: threading.Event) -> None:
    import ray

    last = False
    while not last:
        last = ended.wait(_EVERY_S)  # and once more after the end
        try:
            lost = ray.get(tracker.lost.remote(), timeout=_ANSWER_S)
        except ray.exceptions.RayError:
            continue
        for case in lost.keys() - logged.keys():
            logger.warning(f"warning: left out: {lost[case]}")
            logged[case] = lost[case]


@contextlib.contextmanager
def mlflow_run(
    tracker: "ActorHandle[Tracker]", spec: RunSpec, documents: Mapping[str, str]
) -> Iterator[RunResult]:
    """Keep a run open inside the block; it ends as the block does, and leaving waits until all is written.

    Args:
        documents: texts by file name, stored as the run's artifacts.
    """
    calls: list[ObjectRef[Any]] = [tracker.open_run.remote(spec)]
    calls += [tracker.log_text.remote(spec.id, text, name) for name, text in documents.items()]
    result = RunResult()
    try:
        yield result
    except KeyboardInterrupt:
        calls.append(tracker.close.remote(spec.id, "KILLED", {STOP_REASON: "interrupted"}))
        raise
    except BaseException as error:
        calls.append(tracker.close.remote(spec.id, "FAILED", {"error": str(error)}))
        raise
    else:
        calls.append(tracker.close.remote(spec.id, "FINISHED", result.tags))
        if result.checkpoint is not None:
            calls.append(tracker.log_checkpoint.remote(spec.id, result.checkpoint))
    finally:
        flush(calls, tracker)


def flush(calls: "list[ObjectRef[Any]]", tracker: "ActorHandle[Tracker]") -> None:
    """Wait until these calls are done and all is written; warn of everything that could not be written."""
    import ray

    failures = Counter[str]()
    for call in [*calls, tracker.flush.remote()]:
        try:
            ray.get(call)
        except ray.exceptions.RayTaskError as error:
            logger.debug(f"MLflow: {one_line(error.cause)}")  # what still waits is counted below
        except ray.exceptions.RayError as error:
            failures[one_line(error)] += 1
    with contextlib.suppress(ray.exceptions.RayError):
        failures.update(ray.get(tracker.take_failures.remote()))
    for what, times in sorted(failures.items()):
        later = "; --resume writes it" if NO_ANSWER in what else ""
        logger.warning(f"warning: MLflow has no record of {times} x {what}{later}")


class MetricBuffer:
    """Collects the metrics of one run in its training process and sends them in batches."""

    def __init__(self, tracker: "ActorHandle[Tracker]", run: str, *, every_s: float = 2.0) -> None:
        self._tracker, self._run, self._every_s = tracker, run, every_s
        self._points: list[MetricPoint] = []
        self._sent = self._asked = time.monotonic()
        self._answer: ObjectRef[int] | None = None
        self._call: ObjectRef[Any] | None = None  # of the last metrics
        self._late: ObjectRef[Any] | None = None  # of those that were waited for in vain
        self._saves, self._use = 0, MachineUse()

    def add(self, metrics: Mapping[str, float], step: int) -> None:
        """Add the metrics of a step, and now and then the use of the machine; sent every `every_s`."""
        now = time.time_ns() // 1_000_000
        every = {**metrics, **self._use.sample()}
        self._points += [MetricPoint(name, float(value), step, now) for name, value in every.items()]
        if time.monotonic() - self._sent > self._every_s:
            self.send()

    def epoch(self, metrics: Mapping[str, float], *, delivered: bool = False) -> None:
        """Add an epoch's metrics at the step it ended with, and send everything.

        Args:
            delivered: wait as `deliver` does, so that no checkpoint is ahead of what the tracker has.
        """
        logged = {name: value for name, value in metrics.items() if name not in _INTERNAL}
        self.add(logged, int(metrics["step"]))
        if delivered:
            self.deliver()
        else:
            self.send()

    def pictures(self, pictures: Mapping[str, bytes]) -> None:
        """Have PNG by case stored as artifacts of the run; later ones take the place of earlier ones."""
        for case, png in pictures.items():
            self._tracker.log_picture.remote(self._run, b64encode(png).decode(), f"{case}.png")

    def tag(self, tags: Mapping[str, str]) -> None:
        """Add tags to the run."""
        self._tracker.tag.remote(self._run, dict(tags))

    def chosen(self, values: Mapping[str, Any]) -> None:
        """Add values that the run itself chose, by dotted path, to its parameters, as `chosen.PATH`."""
        parameters = {f"chosen.{path}": value for path, value in values.items()}
        self._tracker.log_parameters.remote(self._run, parameters)

    def save_requested(self) -> bool:
        """Whether the job asks for a checkpoint, once for each time; the tracker is asked without waiting."""
        import ray

        now = time.monotonic()
        if self._answer is None:
            if now - self._asked >= _ASK_EVERY_S:
                self._answer, self._asked = self._tracker.saves_requested.remote(self._run), now
            return False
        if not ray.wait([self._answer], timeout=0)[0]:
            return False
        before, answer, self._answer = self._saves, self._answer, None
        try:
            self._saves = ray.get(answer)
        except ray.exceptions.RayError:  # the tracker is about to be replaced
            return False
        return self._saves > before

    def lost(self, case: str, why: str) -> None:
        """Have the job report that a case was left out."""
        self._tracker.add_lost.remote(case, why)

    def send(self) -> None:
        """Send the metrics that were collected since the last time."""
        if self._points:
            self._call = self._tracker.log.remote(self._run, self._points)
        self._points, self._sent = [], time.monotonic()

    def deliver(self) -> None:
        """Send them, and wait until the tracker has written them, so that no checkpoint is ahead of MLflow.

        A store that is late is waited for once, 5 s: the tracker has them. Where the tracker does not answer,
        as on a node that outlives the head, this waits on.

        Raises:
            RayActorError: the job has ended.
        """
        self.send()
        late = self._late is not None and not _has_answered(self._late, 0.0)
        while self._call is not None and not _has_answered(self._call, 0.0 if late else _DELIVERY_S):
            if _has_answered(self._tracker.saves_requested.remote(self._run), _DELIVERY_S):
                self._late = self._call
                return


def _has_answered(call: "ObjectRef[Any]", timeout_s: float) -> bool:
    """Whether the tracker has done what a call asked for, or failed to, within a time."""
    import ray

    try:
        ray.get(call, timeout=timeout_s)
    except ray.exceptions.GetTimeoutError:
        return False
    except ray.exceptions.RayTaskError as error:
        logger.debug(f"MLflow: {one_line(error.cause)}")
    return True


def version_tags() -> dict[str, str]:
    """Tags of a run: the git commit, where there is one, and the versions of what results depend on."""
    tags = {f"version/{name}": value for name, value in versions().items()}
    commit = git_commit()
    return tags | ({"mlflow.source.git.commit": commit} if commit else {})


def device_tag() -> dict[str, str]:
    """The tag of a run that names the device of this process."""
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else f"cpu ({platform.machine()})"
    return {"device": name}


def _unusable(tracking: TrackingConfig, found: str) -> UserError:
    return UserError(
        f"MLflow store {tracking.uri}", expected="an answer", found=found, remedy="check MLFLOW_TRACKING_URI"
    )


def _start_error(tracking: TrackingConfig, error: Exception) -> UserError:
    """Why the tracker did not start: its own sentence, where there is one at the end of Ray's text."""
    reason = str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
    _, ours, sentence = reason.partition("UserError: ")
    return UserError(sentence) if ours else _unusable(tracking, reason)
