"""MLflow: an experiment and a parent run for each study, a run for each trial, one writer for all."""

import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote

from ossnet.errors import UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

TRIAL = "trial_id"
_SQLITE = "sqlite:///"
_PARAMS, _METRICS = 100, 1000  # how many MLflow accepts in one request
_RETRIES = "1"  # of MLflow's own client within a request: the tracker comes back to it later
_BACKOFF_S = 2.0  # before a store that did not answer is tried again
_TIMEOUT_S = 300.0  # how long the end of a study waits for it
_NOT_LOGGED = {"state.pt"}  # only needed to resume the training


class MetricPoint(NamedTuple):
    """A value of a metric at a step."""

    name: str
    value: float
    step: int
    timestamp_ms: int


@dataclass(frozen=True)
class TrackingConfig:
    """The store of runs and the experiment that they are written to."""

    uri: str
    experiment: str
    artifact_location: str | None
    """Folder or URI where a new experiment stores its files; None leaves it to the tracking server."""

    @classmethod
    def at(cls, folder: Path, experiment: str) -> "TrackingConfig":
        """Use `MLFLOW_TRACKING_URI` where it is set, else `mlflow.db` and `mlartifacts` in `folder`."""
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"{_SQLITE}{folder / 'mlflow.db'}"
        if not uri.startswith(_SQLITE):
            return cls(uri, experiment, None)
        store = Path(unquote(uri.removeprefix(_SQLITE)))
        store = (folder / store).absolute()  # workers have other working directories
        return cls(f"{_SQLITE}{store}", experiment, (store.parent / "mlartifacts").as_uri())

    @property
    def exists(self) -> bool:
        """Whether there is a store; MLflow makes a local one at the first access, even to read."""
        return not self.uri.startswith(_SQLITE) or Path(unquote(self.uri.removeprefix(_SQLITE))).is_file()

    def has_experiment(self) -> bool:
        """Whether the experiment exists."""
        from mlflow import MlflowClient

        return self.exists and MlflowClient(self.uri).get_experiment_by_name(self.experiment) is not None

    @property
    def open_command(self) -> str:
        """The command that shows the runs in a browser."""
        return f"mlflow ui --backend-store-uri {self.uri}" if self.artifact_location else f"open {self.uri}"


@dataclass(frozen=True)
class RunSpec:
    """A run before it has any metric."""

    id: str
    """Our own id, stored as a tag by which the run is found again."""
    name: str
    """The name that MLflow shows."""
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


class Tracker:
    """The only writer of a store. Every method may be repeated: runs are found again by their id.

    It lives in an actor (`start_tracker`), so that training never waits for the store. While the store does
    not answer, all writes wait in memory, in order; an error that another try would repeat is raised.

    Args:
        study: the id of the run that is the parent of all others.
    """

    def __init__(self, tracking: TrackingConfig, study: str | None = None) -> None:
        import mlflow

        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        store = Path(unquote(tracking.uri.removeprefix(_SQLITE)))
        if tracking.uri.startswith(_SQLITE):
            store.parent.mkdir(parents=True, exist_ok=True)
        self._client: MlflowClient = mlflow.MlflowClient(tracking.uri)
        self._experiment = self._find_experiment(tracking)
        self._runs: dict[str, str] = {}
        self._last: dict[str, dict[str, int]] = {}
        self._latest: dict[str, dict[str, float]] = {}
        self._outbox: deque[Callable[[], None]] = deque()
        self._retry_at = 0.0
        self._study = study
        self._ended: set[str] = set()
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", _RETRIES)

    def experiment(self) -> str:
        """The experiment's MLflow id; answering shows that the store works."""
        return self._experiment

    def open_run(self, spec: RunSpec) -> str | None:
        """Make or find a run and mark it as running; its MLflow run id, None while the store is down."""
        self._write(partial(self._open, spec))
        return self._runs.get(spec.id)

    def tag(self, run: str, tags: Mapping[str, str]) -> None:
        """Add tags to a run."""
        self._write(lambda: self._set_tags(self._run_id(run), tags))

    def log(self, run: str, points: Sequence[MetricPoint]) -> None:
        """Add metrics; steps that the run has already are left out, as a resumed run repeats some."""
        latest = self._latest.setdefault(run, {})
        latest.update({point.name: point.value for point in points})
        self._write(partial(self._log, run, points))

    def latest(self, run: str) -> dict[str, float]:
        """The last value of each metric of a run."""
        return self._latest.get(run, {})

    def close(
        self, run: str, status: str, tags: Mapping[str, str] | None = None, checkpoint: Path | None = None
    ) -> None:
        """End a run as FINISHED, KILLED or FAILED; tags and the files of a checkpoint are added before."""
        self._write(partial(self._close, run, status, tags or {}, checkpoint))

    def log_text(self, run: str, text: str, name: str) -> None:
        """Store a text as an artifact of a run."""
        self._write(lambda: self._client.log_text(self._run_id(run), text, name))

    def register(self, run: str, checkpoint: Path, name: str) -> str:
        """Put a run's network into the Model Registry after all writes; returns its URI there."""
        from ossnet.distributed.tracking.model_registry import register

        self.flush()
        return register(self._client, self._run_id(run), checkpoint, name)

    def flush(self, timeout_s: float = _TIMEOUT_S) -> None:
        """Write what still waits.

        Raises:
            MlflowException: the store does not answer within `timeout_s`, or it rejects a request.
        """
        until = time.monotonic() + timeout_s
        while self._outbox:
            try:
                self._outbox[0]()
            except Exception as error:
                if _is_permanent(error):
                    self._outbox.popleft()
                if _is_permanent(error) or time.monotonic() > until:
                    raise
                time.sleep(_BACKOFF_S)
            else:
                self._outbox.popleft()

    def _write(self, request: Callable[[], None]) -> None:
        """Send a request after all that still wait, or have it wait as well."""
        self._outbox.append(request)
        if time.monotonic() < self._retry_at:
            return
        try:
            self.flush(timeout_s=0.0)
        except Exception as error:
            if _is_permanent(error):
                raise
            self._retry_at = time.monotonic() + _BACKOFF_S

    def _open(self, spec: RunSpec) -> None:
        existing = self._find_run(spec.id)
        if existing is not None:
            self._runs[spec.id] = existing.info.run_id
            status = None if spec.id in self._ended else "RUNNING"  # repeated calls may change their order
            self._client.update_run(existing.info.run_id, status=status, name=spec.name)
            self._last[spec.id] = self._last_steps(existing)
        run_id = self._run_id(spec.id, spec.name)
        self._log_params(run_id, spec.params)
        self._set_tags(run_id, spec.tags)

    def _log(self, run: str, points: Sequence[MetricPoint]) -> None:
        from mlflow.entities import Metric

        for start in range(0, len(points), _METRICS):
            last, new = dict(self._last.get(run, {})), list[Metric]()
            for name, value, step, at in points[start : start + _METRICS]:
                if step > last.get(name, -1):
                    last[name] = step
                    new.append(Metric(name, value, at, step))
            if new:
                self._client.log_batch(self._run_id(run), metrics=new)
            self._last[run] = last

    def _close(self, run: str, status: str, tags: Mapping[str, str], checkpoint: Path | None) -> None:
        run_id = self._run_id(run)
        self._set_tags(run_id, tags)
        for file in sorted(checkpoint.iterdir()) if checkpoint else []:
            if file.name not in _NOT_LOGGED:
                self._client.log_artifact(run_id, str(file), "checkpoint")
        self._client.set_terminated(run_id, status)
        self._ended.add(run)

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        logged = self._client.get_run(run_id).data.params
        new = [Param(name, _text(value)) for name, value in params.items() if name not in logged]
        for start in range(0, len(new), _PARAMS):
            self._client.log_batch(run_id, params=new[start : start + _PARAMS])

    def _set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        if tags:
            self._client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])

    def _run_id(self, run: str, name: str | None = None) -> str:
        if run not in self._runs:
            found = self._find_run(run)
            self._runs[run] = found.info.run_id if found else self._create_run(run, name or run)
        return self._runs[run]

    def _create_run(self, run: str, name: str) -> str:
        parent = {} if self._study in {None, run} else {"mlflow.parentRunId": self._run_id(str(self._study))}
        tags = {TRIAL: run} | parent
        return self._client.create_run(self._experiment, run_name=name, tags=tags).info.run_id

    def _find_run(self, run: str) -> "Run | None":
        found = self._client.search_runs([self._experiment], f"tags.{TRIAL} = '{run}'", max_results=1)
        return found[0] if found else None

    def _last_steps(self, run: "Run") -> dict[str, int]:
        history = self._client.get_metric_history
        return {name: max(m.step for m in history(run.info.run_id, name)) for name in run.data.metrics}

    def _find_experiment(self, tracking: TrackingConfig) -> str:
        found = self._client.get_experiment_by_name(tracking.experiment)
        if found is None:
            return self._client.create_experiment(
                tracking.experiment, artifact_location=tracking.artifact_location
            )
        if found.lifecycle_stage != "active":
            raise UserError(
                f"experiment {tracking.experiment!r} in {tracking.uri}",
                expected="an active one",
                found="a deleted one",
                remedy="restore it or name another",
            )
        return found.experiment_id


def _text(value: Any) -> str:
    return "null" if value is None else str(value)


def _is_permanent(error: Exception) -> bool:
    """Whether a request that failed would fail again once the store answers."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return bool(error.get_http_status_code() < 500)
    return not isinstance(error, OSError) or isinstance(error, FileNotFoundError)
