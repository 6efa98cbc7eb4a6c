"""A study of seconds as a process: what faults hurt, and what it must have in the end."""

import sqlite3
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from job_process import JobProcess
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import FrozenTrial, TrialState
from tcp_proxy import TcpProxy

from ossnet.distributed._sqlite import sqlite_url

NAME = "mine"
TRIALS, EPOCHS = 4, 20
STEPS, EVERY = 2 * EPOCHS, 4  # of a training, and between two validations
HISTORIES = {"loss/train": range(1, STEPS + 1), "dice/val": range(EVERY, STEPS + 1, EVERY)}
SPACE = """
def space(trial):
    return {"optimizer.learning_rate": trial.suggest_float("rate", 1e-4, 0.02, log=True)}
"""


@dataclass
class SmallStudy:
    """A study in a folder of its own."""

    folder: Path
    store: Path
    options: list[str]
    """Those of a tiny network and its training."""
    output: str = "study"
    """As it is given to the job."""
    environment: dict[str, str] = field(default_factory=dict)
    ways: dict[str, TcpProxy] = field(default_factory=dict)
    """Those to the services that it uses, by their names."""
    nodes: dict[str, int] = field(default_factory=dict)
    """The process ids of its cluster's nodes, where it has one."""

    def __post_init__(self) -> None:
        """Write its space."""
        self.jobs: list[JobProcess] = []
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{NAME}.py").write_text(SPACE)

    def begin(self, *more: object) -> JobProcess:
        """Start a job that runs it."""
        options: list[object] = ["--data", self.store, "--space", f"{NAME}.py", "--trials", TRIALS]
        options += ["--output", self.output, "--early-stopping.algorithm", "none", *self.options]
        options += ["--training.epochs", EPOCHS, "--training.checkpoint-every", 8, *more]
        return JobProcess(self.folder, "tune", *options, environment=self.environment)

    def start(self, *more: object) -> None:
        """Start the job that is hurt, or that goes on."""
        self.jobs.append(self.begin(*more))

    @property
    def running(self) -> JobProcess:
        """The last such job."""
        return self.jobs[-1]

    @property
    def path(self) -> Path:
        """Its folder on this machine; with an output on object storage, the copy."""
        if "://" not in self.output:
            return self.folder / self.output
        copies = Path(self.environment["XDG_CACHE_HOME"]).glob("ossnet/outputs/*/study")
        return next(copies, self.folder / "no copy yet")

    @property
    def database(self) -> Path:
        return self.path / "study.db"

    @property
    def tracking_uri(self) -> str:
        return self.environment.get("MLFLOW_TRACKING_URI") or sqlite_url(self.folder / "mlflow.db")

    def ended(self) -> int:
        """How many trials have ended."""
        return count_ended(self.database)

    def has_one_in_the_middle(self) -> bool:
        """Whether a training has begun, and half of it is still to come."""
        return any(steps < STEPS / 2 for steps in steps_of_running(self.folder / "mlflow.db"))

    def until_in_the_middle(self) -> None:
        """Wait until one trial has ended, and another one trains."""
        self.running.until(lambda: self.ended() >= 1 and self.has_one_in_the_middle())

    def until_next_end(self) -> None:
        """Wait until one more trial has ended."""
        before = self.ended()
        self.running.until(lambda: self.ended() > before)

    def until_further_steps(self) -> None:
        """Wait until MLflow has more training steps than now."""
        mlflow = self.folder / "mlflow.db"
        before = count_steps(mlflow)
        self.running.until(lambda: count_steps(mlflow) > before)

    def trials(self) -> list[FrozenTrial]:
        """Those that took a slot."""
        storage = sqlite_url(self.database)
        if not self.database.is_file() or not optuna.get_all_study_names(storage):
            return []
        found = optuna.load_study(study_name=NAME, storage=storage).trials
        return [trial for trial in found if not trial.user_attrs.keys() & {"repeats", "forbidden"}]

    def runs(self) -> tuple[MlflowClient, list[Run]]:
        """MLflow's client, and all of its runs."""
        client = MlflowClient(self.tracking_uri)
        found = client.get_experiment_by_name(NAME)
        return client, [] if found is None else client.search_runs([found.experiment_id])


def count_ended(database: Path) -> int:
    """How many trials of a study have ended."""
    states = _rows(database, "SELECT state FROM trials")
    return sum(TrialState[state].is_finished() for (state,) in states)


def count_steps(mlflow: Path) -> int:
    """How many training steps MLflow has of all runs."""
    rows = _rows(mlflow, "SELECT count(*) FROM metrics WHERE key = 'loss/train'")
    return sum(count for (count,) in rows)


def steps_of_running(mlflow: Path) -> list[int]:
    """The number of steps in MLflow of each run that is running and has any."""
    query = (
        "SELECT count(*) FROM metrics JOIN runs ON runs.run_uuid = metrics.run_uuid"
        " WHERE metrics.key = 'loss/train' AND runs.status = 'RUNNING' GROUP BY runs.run_uuid"
    )
    return [steps for (steps,) in _rows(mlflow, query)]


def _rows(database: Path, query: str) -> list[tuple[Any]]:
    """The rows of a query; none where the file is not there yet, is being made, or is locked."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=1)) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []


@dataclass
class Account:
    """What a fault did to a study, each in a few words."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    hung: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether there is anything that should not be."""
        return bool(self.lost or self.doubled or self.hung)

    def add_end(self, job: JobProcess, limit_s: float) -> int | None:
        """The exit status of a job; None, which is counted, where it does not end: it is killed then."""
        try:
            return job.end(limit_s)[0]
        except subprocess.TimeoutExpired:
            self.hung.append(f"the job, for {limit_s:.0f} s")
            job.kill()
            return None

    def add_left(self, job: JobProcess, limit_s: float) -> None:
        """Count what a job that has ended left running, and has not ended by itself in time; it is killed."""
        until = time.monotonic() + limit_s
        while job.processes() and time.monotonic() < until:
            time.sleep(0.1)
        self.hung += [f"process {pid}: {title}" for pid, title in job.titles().items()]
        job.kill()

    def count(self, what: str, found: Counter[int], expected: Iterable[int]) -> None:
        """Compare how often each number was found with once each."""
        wanted = set(expected)
        self.lost += [f"{what} {number}" for number in sorted(wanted - found.keys())]
        for number, times in sorted(found.items()):
            self.doubled += [f"{what} {number}"] * (times - (number in wanted))

    def add_results(self, study: SmallStudy) -> None:
        """Count trials, runs, steps, validations, checkpoints and registered networks of an ended study."""
        trials = study.trials()
        self.lost += [f"trial {each.number}: {each.state.name}" for each in trials if each.values is None]
        self.count("the trial at place", Counter(range(len(trials))), range(TRIALS))
        client, runs = study.runs()
        numbers = Counter(int(run.data.tags["trial"]) for run in runs if "trial" in run.data.tags)
        self.count("the run of trial", numbers, [trial.number for trial in trials])
        self.count("the study's run at place", Counter(range(len(runs) - numbers.total())), range(1))
        for run in runs:
            name = f"run of {run.data.tags.get('trial', 'the study')}"
            if run.info.status != "FINISHED" or "stop_reason" in run.data.tags:
                self.lost.append(f"{name}: its end ({run.info.status})")
            if "trial" in run.data.tags:
                self._add_histories(name, client, run)
        if not (study.path / "checkpoint" / "model.safetensors").is_file():
            self.lost.append("the best checkpoint")
        versions = client.search_model_versions(f"name = '{NAME}'")
        self.count("the registered version at place", Counter(range(len(versions))), range(1))

    def _add_histories(self, name: str, client: MlflowClient, run: Run) -> None:
        for metric, expected in HISTORIES.items():
            steps = Counter(each.step for each in client.get_metric_history(run.info.run_id, metric))
            self.count(f"{name}: {metric} of step", steps, expected)
        files = {file.path for file in client.list_artifacts(run.info.run_id)}
        self.lost += [f"{name}: {file}" for file in sorted({"checkpoint", "config.json"} - files)]
