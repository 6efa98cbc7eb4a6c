"""The store of runs: where it is, how it is opened by many at once, and its experiments."""

import logging
import os
import shlex
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ossnet.distributed._sqlite import check_database, creation_lock, sqlite_path, sqlite_url
from ossnet.distributed.tracking.names import ORIGINAL, legal_experiment, legal_text
from ossnet.distributed.tracking.outbox import one_line
from ossnet.errors import UserError, printable
from ossnet.training.reporting import RunOrigin

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

_PACKAGES = {  # what MLflow needs to write artifacts, and the extra that brings it
    "s3": ("boto3", "s3"),
    "gs": ("google.cloud.storage", "gcs"),
    "abfss": ("azure.storage.filedatalake", "azure"),
    "wasbs": ("azure.storage.blob", "azure"),
}
_RETRIES = "1"  # of MLflow's own client within a request: the tracker comes back to it later
_TIMEOUT_S = "30"  # of one request
_KIND = "mlflow.experimentKind"


@dataclass(frozen=True)
class TrackingConfig:
    """The store of runs and the experiment that they are written to."""

    uri: str
    experiment: str
    artifact_location: str | None
    """Where a new experiment stores its files; None leaves it to the tracking server."""

    @classmethod
    def at(cls, folder: Path, experiment: str) -> "TrackingConfig":
        """Use `MLFLOW_TRACKING_URI` where it is set, else `mlflow.db` and `mlartifacts` in `folder`.

        A new experiment of a local store has its files under `MLFLOW_DEFAULT_ARTIFACT_ROOT` where that is
        set, as an MLflow server would.
        """
        uri = os.environ.get("MLFLOW_TRACKING_URI") or sqlite_url(folder / "mlflow.db")
        path = sqlite_path(uri)
        if path is None:
            return cls(uri, experiment, None)
        store = (folder / path).absolute()  # workers have other working directories
        files = os.environ.get("MLFLOW_DEFAULT_ARTIFACT_ROOT") or (store.parent / "mlartifacts").as_uri()
        return cls(sqlite_url(store), experiment, files)

    @property
    def exists(self) -> bool:
        """Whether there is a store; MLflow makes a local one at the first access, even to read."""
        path = sqlite_path(self.uri)
        return path is None or path.is_file()

    def origin(self, run: str) -> RunOrigin:
        """What a checkpoint says of its run, by the run's id."""
        return RunOrigin(run, printable(self.uri), self.experiment)

    def has_experiment(self) -> bool:
        """Whether the experiment exists."""
        return self.exists and self.find_experiment(open_client(self.uri)) is not None

    def find_experiment(self, client: "MlflowClient") -> "Experiment | None":
        """The experiment; None where there is none."""
        return client.get_experiment_by_name(legal_experiment(self.experiment))

    def make_experiment(self, client: "MlflowClient") -> str:
        """The id of the experiment, made where there is none; another job may make it at the same time.

        Raises:
            UserError: it was deleted, or a package is missing that its files need.
        """
        from mlflow.exceptions import MlflowException

        found = self.find_experiment(client)
        if found is None:
            name = legal_experiment(self.experiment)
            tags = {} if name == self.experiment else {ORIGINAL: legal_text(self.experiment)}
            tags |= {_KIND: "custom_model_development"}  # without it the page is that of language models
            try:
                made = client.create_experiment(name, artifact_location=self.artifact_location, tags=tags)
                found = client.get_experiment(made)
            except MlflowException:
                found = self.find_experiment(client)
                if found is None:
                    raise
        if found.lifecycle_stage != "active":
            raise UserError(
                f"experiment {self.experiment!r} in {self.uri}",
                expected="an active one",
                found="a deleted one",
                remedy="restore it or name another",
            )
        check_artifact_package(found.artifact_location)
        return str(found.experiment_id)

    @property
    def open_command(self) -> str:
        """The command that shows the runs in a browser."""
        command = ["mlflow", "ui", "--backend-store-uri"] if self.artifact_location else ["open"]
        return shlex.join([*command, self.uri])


def check_artifact_package(location: str) -> None:
    """Reject artifacts on object storage for which MLflow lacks the package: it would only warn.

    Raises:
        UserError: names the extra that brings the package.
    """
    package, extra = _PACKAGES.get(urlsplit(location).scheme, (None, None))
    if package is not None and not _is_installed(package):
        raise UserError(
            f"MLflow's artifacts in {location}",
            expected=f"the package {package}",
            found="none",
            remedy=f"install ossnet[{extra}]",
        )


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of its parent
        return False


def open_client(uri: str, *, write: bool = False) -> "MlflowClient":
    """MLflow's client of a store that answers; a local one is made by one process at a time.

    Args:
        write: also check that a local store can be written.

    Raises:
        UserError: the store cannot be used; in one line, as MLflow's own log is silenced.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", _RETRIES)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", _TIMEOUT_S)
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # with the URL's password, of each run
    import mlflow
    from mlflow.exceptions import MlflowException

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    path = sqlite_path(uri)
    if path is not None:
        check_database(path, write=write)
    try:
        if path is None:
            return _answering(mlflow.MlflowClient(uri))
        with creation_lock(path):
            return _without_stray_folder(uri, path)
    except UserError:
        raise
    except (MlflowException, OSError) as error:
        raise _unusable(uri, error) from None  # Ray prints causes as they are, with the URL's password
    except Exception as error:
        if "sqlalchemy" in type(error).__module__ or "alembic" in type(error).__module__:
            raise _unusable(uri, error) from None
        raise


def _answering(client: "MlflowClient") -> "MlflowClient":
    """The client, once its store has answered: a local one makes its tables then."""
    client.search_experiments(max_results=1)
    return client


def _without_stray_folder(uri: str, path: Path) -> "MlflowClient":
    """Open a local store; MLflow makes the folder that its URL, taken as a path, would have."""
    import mlflow

    literal = Path(uri.removeprefix("sqlite:///")).parent
    made = (
        [each for each in (literal, *literal.parents) if not each.exists()] if literal != path.parent else []
    )
    client = _answering(mlflow.MlflowClient(uri))
    for folder in made:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    return client


def _unusable(uri: str, error: Exception) -> UserError:
    return UserError(
        f"MLflow store {uri}",
        expected="an answer",
        found=one_line(error),
        remedy="check MLFLOW_TRACKING_URI",
    )
