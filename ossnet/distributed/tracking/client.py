"""MLflow: an experiment and a parent run for each study, a run for each trial, one writer for all."""

import contextlib
import json
import logging
import os
import threading
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ossnet.distributed.tracking import stored_checkpoint
from ossnet.distributed.tracking.description import OVERLAYS, keep_pictures, show_picture, store_picture
from ossnet.distributed.tracking.journal import Journal
from ossnet.distributed.tracking.names import legal_file, legal_key, legal_text, original_keys, original_tags
from ossnet.distributed.tracking.outbox import Outbox, is_passing
from ossnet.distributed.tracking.store import TrackingConfig, open_client
from ossnet.metric_names import ERROR, STEP, STOP_REASON
from ossnet.output.atomic_write import disk_fault

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param, Run, RunTag

__all__ = ["TRIAL", "MetricPoint", "RunSpec", "Tracker", "TrackingConfig"]

logger = logging.getLogger(__name__)

TRIAL = "trial_id"
_LIMITS = {"metrics": 1000, "params": 100, "tags": 100}  # how many MLflow accepts in one request
_TIMEOUT_S, _FILES_TIMEOUT_S = 300.0, 20.0  # how long the end of a study waits for runs, and for their files
_NAME_LIMIT = 250
_PAGE = 1000  # runs in an answer
_OF_AN_END = (STOP_REASON, ERROR)  # tags of a run that has ended, which go when it goes on


class MetricPoint(NamedTuple):
    """A value of a metric at a step."""

    name: str
    value: float
    step: int
    timestamp_ms: int


@dataclass(frozen=True)
class RunSpec:
    """A run before it has any metric."""

    id: str
    """Our own id, stored as a tag by which the run is found again."""
    name: str
    """The name that MLflow shows."""
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> tuple[str, str, dict[str, str], dict[str, str]]:
        """The fields as JSON has them; values of parameters are the texts that are logged."""
        params = {name: legal_text(value) for name, value in self.params.items()}
        return self.id, self.name, params, dict(self.tags)


class Tracker:
    """The only writer of a store. Every method may be repeated: runs are found again by their id.

    It lives in an actor (`start_tracker`), so that training never waits for the store. While the store does
    not answer, all writes wait in memory, in order; what it rejects is counted (`take_failures`). Files have
    a queue of their own: where they cannot be written, metrics are all the same, and runs end. What is not
    written yet stands in a journal, too, from which the process that replaces a killed one goes on.

    Names that MLflow does not take are changed to legal ones; a run's tags keep what they were.

    Args:
        study: the id of the run that is the parent of all others.
        journal: the file of the journal, which this tracker alone writes; without one nothing outlives it.
        variables: the job's environment, as far as this process has another.

    Raises:
        UserError: the store cannot be used, or the experiment was deleted.
    """

    def __init__(
        self,
        tracking: TrackingConfig,
        study: str | None = None,
        journal: Path | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        os.environ.update(variables or {})
        self._client = open_client(tracking.uri, write=True)
        self._experiment = tracking.make_experiment(self._client)
        self._runs, self._renamed = dict[str, str](), dict[str, set[str]]()
        self._finding = threading.RLock()  # files are written in a thread of their own
        self._last, self._latest = dict[str, dict[str, int]](), dict[str, dict[str, float]]()
        self._requests, self._files = Outbox(), Outbox()
        self._study, self._lost = study, dict[str, str]()
        self._saves, self._training, self._ended = 0, set[str](), set[str]()
        self._journal = Journal(None)  # while calls that it has are repeated
        self._repeat(Journal(journal))

    def experiment(self) -> str:
        """The experiment's MLflow id; answering shows that the store works."""
        return self._experiment

    def open_run(self, spec: RunSpec) -> str | None:
        """Make or find a run and mark it as running; its MLflow run id, None while the store is down."""
        with self._kept("open_run", *spec.to_json()):
            self._requests.send("start of a run", partial(self._open, spec))
            self._requests.send("parameters", partial(self._log_params, spec.id, spec.params))
            self._send_tags(spec.id, spec.tags)
        return self._runs.get(spec.id)

    def log_parameters(self, run: str, params: Mapping[str, Any]) -> None:
        """Add parameters to a run; those that it has already stay."""
        with self._kept("log_parameters", run, dict(params)):
            self._requests.send("parameters", partial(self._log_params, run, params))

    def tag(self, run: str, tags: Mapping[str, str]) -> None:
        """Add tags to a run."""
        with self._kept("tag", run, dict(tags)):
            self._send_tags(run, tags)

    def log(self, run: str, points: Sequence[MetricPoint]) -> None:
        """Add metrics; steps that the run has already are left out, as a resumed run repeats some."""
        latest = self._latest.setdefault(run, {})
        latest.update({point.name: point.value for point in points})
        latest[STEP] = max([point.step for point in points], default=latest.get(STEP, 0))
        with self._kept("log", run, points):
            self._requests.send("metrics", partial(self._log, run, points))

    def latest(self, run: str) -> dict[str, float]:
        """The last value of each metric of a run, and its last step."""
        return self._latest.get(run, {})

    def add_lost(self, case: str, why: str) -> None:
        """Keep why a run left out a case, for the job to report."""
        self._lost.setdefault(case, why)

    def lost(self) -> dict[str, str]:
        """Why cases were left out."""
        return self._lost

    def saves_requested(self, run: str) -> int:
        """How often a checkpoint of what trains was asked for; called by a run that does."""
        self._training.add(run)
        return self._saves

    def request_save(self) -> list[str]:
        """Ask all that trains for a checkpoint; the ids of those runs that will hear of it."""
        self._saves += 1
        return sorted(self._training)

    def statuses(self) -> dict[str, str]:
        """The status of each run of the experiment that has an id of ours, by that."""
        found, token = dict[str, str](), None
        while True:
            page = self._client.search_runs([self._experiment], max_results=_PAGE, page_token=token)
            found |= {run.data.tags[TRIAL]: run.info.status for run in page if TRIAL in run.data.tags}
            token = page.token
            if not token:
                return found

    def without_checkpoint(self, runs: Sequence[str]) -> list[str]:
        """Those of these runs that `log_checkpoint` stored nothing for, or not all files."""
        return [run for run in runs if not stored_checkpoint.is_stored(self._client, self._run_id(run))]

    def fetch_checkpoint(self, run: str, folder: Path) -> bool:
        """Copy the files that `log_checkpoint` stored into an existing folder; False where there are none."""
        return stored_checkpoint.fetch(self._client, self._run_id(run), folder)

    def close(self, run: str, status: str, tags: Mapping[str, str] | None = None) -> None:
        """End a run as FINISHED, KILLED or FAILED; tags are added before."""
        self._training.discard(run)
        with self._kept("close", run, status, tags):
            self._send_tags(run, tags or {})
            self._requests.send("end of a run", partial(self._close, run, status))

    def correct_status(self, run: str, status: str, tags: Mapping[str, str]) -> None:
        """End a run that another process left open; it may be opened again."""
        with self._kept("correct_status", run, status, dict(tags)):
            self._send_tags(run, tags)
            self._requests.send(
                "end of a run", lambda: self._client.set_terminated(self._run_id(run), status)
            )

    def log_input(self, run: str, dataset: Mapping[str, str]) -> None:
        """Add the data set of a run, as `dataset_of` gives it."""
        with self._kept("log_input", run, dict(dataset)):
            self._requests.send("data set", partial(self._log_input, run, dataset))

    def log_text(self, run: str, text: str, name: str) -> None:
        """Store a text as an artifact of a run."""
        text = legal_text(text)
        with self._kept("log_text", run, text, name):
            self._files.send(name, lambda: self._client.log_text(self._run_id(run), text, legal_file(name)))

    def log_picture(self, run: str, png: str, name: str) -> None:
        """Store a PNG, as base64, among a run's overlays; it takes the place of an earlier one."""
        with self._kept("log_picture", run, png, name):
            self._files.send(f"{OVERLAYS}/{name}", partial(self._log_picture, run, png, legal_file(name)))

    def log_checkpoint(self, run: str, checkpoint: Path) -> None:
        """Store the files of a checkpoint as artifacts of a run, but for what only resuming needs."""
        files = stored_checkpoint.files_to_store(checkpoint)
        with self._kept("log_checkpoint", run, str(checkpoint)):
            for file in files:
                self._files.send(f"checkpoint/{file.name}", partial(self._log_file, run, file))

    def register(self, run: str, checkpoint: Path, name: str) -> str:
        """Put a run's network into the Model Registry after all writes; returns its URI there."""
        from ossnet.distributed.tracking.model_registry import register

        self._requests.flush(_TIMEOUT_S)
        return register(self._client, self._run_id(run), checkpoint, name)

    def flush(self, timeout_s: float = _TIMEOUT_S) -> None:
        """Write what still waits; files at most for 20 s of it, as their store may never answer.

        Raises:
            Exception: a store does not answer in time.
        """
        try:
            self._requests.flush(timeout_s)
            self._files.flush(min(timeout_s, _FILES_TIMEOUT_S))
        finally:
            self._settle()

    def take_failures(self) -> dict[str, int]:
        """How often what was not written, since the last call."""
        with self._kept("take_failures"):
            return dict(self._requests.take_failures() + self._files.take_failures())

    def _repeat(self, journal: Journal) -> None:
        """Do what a process before this one, which was killed, has not done; then keep what is asked for."""
        calls, failures = journal.read()
        self._requests.failures.update(failures)
        for name, arguments in calls:
            try:
                getattr(self, name)(*_from_json(name, arguments))
            except Exception as error:  # as a checkpoint that is gone meanwhile
                self._requests.count(name, error)
        self._journal = journal
        self._settle()

    @contextlib.contextmanager
    def _kept(self, name: str, *arguments: Any) -> Iterator[None]:
        """Keep a call in the journal until all is written; where the disk is full, do it without."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._journal.call(name, *arguments))
            except OSError as error:
                logger.debug(f"MLflow's journal: {error}")
            yield
        self._settle()

    def _settle(self) -> None:
        if self._requests.idle and self._files.idle:
            with contextlib.suppress(OSError):  # what is done stays in the journal, and may be repeated
                self._journal.settle(self._requests.failures + self._files.failures)

    def _send_tags(self, run: str, tags: Mapping[str, str]) -> None:
        self._requests.send("tags", partial(self._set_tags, run, tags))

    def _open(self, spec: RunSpec) -> None:
        with self._finding:
            existing = self._find_run(spec.id)
            if existing is None:
                self._runs[spec.id] = self._create_run(spec.id, spec.name)
                return
        run_id = self._runs[spec.id] = existing.info.run_id
        status = None if spec.id in self._ended else "RUNNING"  # repeated calls may change their order
        self._client.update_run(run_id, status=status, name=legal_text(spec.name)[:_NAME_LIMIT])
        for tag in _OF_AN_END:
            if status is not None and tag in existing.data.tags:
                self._client.delete_tag(run_id, tag)
        self._last[spec.id] = self._last_steps(existing)

    def _log(self, run: str, points: Sequence[MetricPoint]) -> None:
        from mlflow.entities import Metric

        self._run_id(run)  # and with it the last steps
        self._keep_names(run, {point.name for point in points})
        size = _LIMITS["metrics"]
        for start in range(0, len(points), size):
            last, new = dict(self._last.get(run, {})), list[Metric]()
            for name, value, step, at in points[start : start + size]:
                if step > last.get(name, -1):
                    last[name] = step
                    new.append(Metric(legal_key(name), value, at, step))
            self._send(run, "metrics", new)
            self._last[run] = last

    def _close(self, run: str, status: str) -> None:
        self._client.set_terminated(self._run_id(run), status)
        self._ended.add(run)

    def _log_file(self, run: str, file: Path) -> None:
        stored_checkpoint.store_file(self._client, self._run_id(run), file)

    def _log_picture(self, run: str, png: str, name: str) -> None:
        store_picture(self._client, self._run_id(run), b64decode(png), name)
        self._requests.send("description", partial(show_picture, self._client, self._run_id(run), name))

    def _log_input(self, run: str, dataset: Mapping[str, str]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"uri": dataset["source"]})
        entity = Dataset(dataset["name"], dataset["digest"], "local", source, profile=dataset["profile"])
        found = DatasetInput(entity, [InputTag("mlflow.data.context", "training and validation")])
        self._client.log_inputs(self._run_id(run), [found])

    def _log_params(self, run: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        if not params:
            return
        logged = self._client.get_run(self._run_id(run)).data.params
        self._keep_names(run, params)
        legal = {legal_key(name): legal_text(value) for name, value in params.items()}
        self._send(run, "params", [Param(name, legal[name]) for name in legal if name not in logged])

    def _set_tags(self, run: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self._keep_names(run, tags)
        tags = keep_pictures(self._client, self._run_id(run), tags)
        self._send(run, "tags", [RunTag(legal_key(name), legal_text(text)) for name, text in tags.items()])

    def _keep_names(self, run: str, names: Iterable[str]) -> None:
        """Store the names that are changed, before what they name."""
        from mlflow.entities import RunTag

        known = self._renamed.setdefault(run, set())
        tags = {tag: name for tag, name in original_tags(names).items() if tag not in known}
        self._send(run, "tags", [RunTag(tag, name) for tag, name in tags.items()])
        known |= tags.keys()

    def _send(
        self,
        run: str,
        kind: Literal["metrics", "params", "tags"],
        entities: "Sequence[Metric] | Sequence[Param] | Sequence[RunTag]",
    ) -> None:
        """Log a batch; where it is rejected, each alone, so that one does not take the others along."""
        for start in range(0, len(entities), _LIMITS[kind]):
            batch = entities[start : start + _LIMITS[kind]]
            try:
                self._client.log_batch(self._run_id(run), **{kind: batch})
            except Exception as error:
                if is_passing(error):
                    raise
                if disk_fault(error):  # for each of them
                    self._requests.count(kind, error, len(batch))
                    continue
                if len(batch) == 1:
                    self._requests.count(f"{kind[:-1]} {batch[0].key}", error)
                    continue
                for each in batch:
                    self._send(run, kind, [each])

    def _run_id(self, run: str) -> str:
        with self._finding:
            if run not in self._runs:
                found = self._find_run(run)
                self._runs[run] = found.info.run_id if found else self._create_run(run, run)
                if found:
                    self._last[run] = self._last_steps(found)
            return self._runs[run]

    def _create_run(self, run: str, name: str) -> str:
        parent = {} if self._study in {None, run} else {"mlflow.parentRunId": self._run_id(str(self._study))}
        name, tags = legal_text(name)[:_NAME_LIMIT], {TRIAL: run} | parent
        return self._client.create_run(self._experiment, run_name=name, tags=tags).info.run_id

    def _find_run(self, run: str) -> "Run | None":
        found = self._client.search_runs([self._experiment], f"tags.{TRIAL} = '{run}'", max_results=1)
        return found[0] if found else None

    def _last_steps(self, run: "Run") -> dict[str, int]:
        originals, history = original_keys(run.data.tags), self._client.get_metric_history
        return {
            originals.get(name, name): max(m.step for m in history(run.info.run_id, name))
            for name in run.data.metrics
        }


def _from_json(name: str, arguments: list[Any]) -> list[Any]:
    """The arguments of a call that a journal kept."""
    if name == "open_run":
        return [RunSpec(*arguments)]
    if name == "log":
        run, points = arguments
        return [run, [MetricPoint(*point) for point in points]]
    if name == "log_checkpoint":
        run, checkpoint = arguments
        return [run, Path(checkpoint)]
    return arguments
