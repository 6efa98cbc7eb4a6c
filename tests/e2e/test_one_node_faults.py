"""The faults of one machine that `docs/reliability.md` lists: nothing is lost or doubled, and a line says it.

A study is interrupted once; each test damages a copy of what it left, and resumes that.
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

ROOT = Path(__file__).parents[2]
TRIALS, EPOCHS, STEPS = 4, 60, 120
SPACE = """
def space(trial):
    return {"optimizer.learning_rate": trial.suggest_float("rate", 1e-4, 0.02, log=True)}
"""


class Job:
    """A job as a process with a group of its own, in a folder where its log is."""

    def __init__(self, folder: Path, name: str, *options: object) -> None:
        command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *map(str, options)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []

    def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            assert self.process.poll() is None, self.end()
            time.sleep(0.1)

    def end(self) -> tuple[int, list[str]]:
        """The exit status and the lines of the log, once it has ended."""
        _, log = self.process.communicate()
        return self.process.returncode, log.splitlines()

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    database = folder / "study" / "study.db"
    if not database.is_file() or not optuna.get_all_study_names(f"sqlite:///{database}"):
        return []
    return optuna.load_study(study_name="mine", storage=f"sqlite:///{database}").trials


def runs(folder: Path) -> tuple[MlflowClient, list[Run]]:
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = client.get_experiment_by_name("mine")
    assert found is not None
    return client, client.search_runs([found.experiment_id])


def steps_of_running(database: Path) -> list[int]:
    """The number of steps in MLflow of each run that is running and has any."""
    if not database.is_file():
        return []
    query = (
        "SELECT count(*) FROM metrics JOIN runs ON runs.run_uuid = metrics.run_uuid"
        " WHERE metrics.key = 'loss/train' AND runs.status = 'RUNNING' GROUP BY runs.run_uuid"
    )
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as store:
        try:
            return [int(count) for (count,) in store.execute(query)]
        except sqlite3.OperationalError:  # it is being made
            return []


def check_exact(folder: Path) -> None:
    """Four trials, five runs, every step once, every status right, the best network kept and registered."""
    started = [trial for trial in trials(folder) if "repeats" not in trial.user_attrs]
    assert [trial.state.name for trial in started] == ["COMPLETE"] * TRIALS
    client, found = runs(folder)
    assert len(found) == TRIALS + 1
    assert {run.info.status for run in found} == {"FINISHED"}
    for run in found:
        if "trial" in run.data.tags:
            steps = [each.step for each in client.get_metric_history(run.info.run_id, "loss/train")]
            assert steps == list(range(1, STEPS + 1))
            assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"checkpoint"}
            assert "stop_reason" not in run.data.tags
    numbers = {run.data.tags["trial"] for run in found if "trial" in run.data.tags}
    assert numbers == {str(trial.number) for trial in started}
    assert (folder / "study" / "checkpoint" / "model.safetensors").is_file()
    assert len(client.search_model_versions("name = 'mine'")) == 1


@pytest.fixture(scope="session")
def study_options(phantom_store: Path, tiny_training: list[str], tiny_network: list[str]) -> list[object]:
    options: list[object] = ["--data", phantom_store, "--space", "mine.py", "--trials", TRIALS]
    options += ["--output", "study", "--early-stopping.algorithm", "none", *tiny_training, *tiny_network]
    return [*options, "--training.epochs", EPOCHS, "--training.checkpoint-every", EPOCHS]


@pytest.fixture(scope="session")
def left(tmp_path_factory: pytest.TempPathFactory, study_options: list[object]) -> Path:
    """A study that SIGTERM has ended after one trial, while a second driver was refused."""
    folder = tmp_path_factory.mktemp("left")
    (folder / "mine.py").write_text(SPACE)
    job = Job(folder, "tune", *study_options)
    job.until(lambda: (folder / "study" / "study.db").is_file())
    code, lines = Job(folder, "tune", *study_options).end()
    assert code == 2
    assert f"an ossnet tune that is still running (process {job.process.pid} on " in lines[-1]
    job.until(lambda: sum(trial.state.is_finished() for trial in trials(folder)) >= 1)
    job.until(lambda: any(5 <= steps < STEPS / 2 for steps in steps_of_running(folder / "mlflow.db")))
    began = time.monotonic()
    job.process.terminate()
    code, lines = job.end()
    assert code == 143, lines
    assert time.monotonic() - began < 60
    assert lines[-1].startswith("interrupted; go on with: ossnet tune --data ")
    assert lines[-1].endswith(" --resume")
    assert not [line for line in lines if "Traceback" in line or line.startswith("warning")], lines
    states = [trial.state.name for trial in trials(folder)]
    assert "COMPLETE" in states
    assert set(states) <= {"COMPLETE", "RUNNING"}
    _, found = runs(folder)
    assert {run.info.status for run in found} == {"FINISHED", "KILLED"}
    assert not (folder / "study" / "checkpoint").exists()
    assert "RUNNING" in states  # checkpoints are due at the end only
    assert list(folder.glob("study/trials/*/checkpoint_interim/state.pt"))
    return folder


@pytest.fixture
def copy(left: Path, tmp_path: Path) -> Path:
    return shutil.copytree(left, tmp_path / "copy")


def resume(folder: Path, options: list[object], *more: object) -> list[str]:
    code, lines = Job(folder, "tune", *options, "--resume", *more).end()
    assert code == 0, lines
    return lines


@pytest.mark.slow
def test_two_that_resume_at_once(copy: Path, study_options: list[object]) -> None:
    """The other one is refused in one line; and `--resume auto` goes on where there is something."""
    first = Job(copy, "tune", *study_options, "--resume", "auto")
    second = Job(copy, "tune", *study_options, "--resume")
    ends = sorted((first.end(), second.end()))
    assert [code for code, _ in ends] == [0, 2], ends
    assert "that is still running (process" in ends[1][1][-1]
    check_exact(copy)


def lose_ends(folder: Path) -> None:
    """As a driver leaves them that is killed between Optuna and MLflow."""
    client, found = runs(folder)
    for run in found:
        client.update_run(run.info.run_id, status="RUNNING")


def empty_study(folder: Path) -> None:
    os.truncate(folder / "study" / "study.db", 0)


def truncate_study(folder: Path) -> None:
    file = folder / "study" / "study.db"
    os.truncate(file, file.stat().st_size // 2 + 1000)


def zero_pages(folder: Path) -> None:
    file = folder / "study" / "study.db"
    content = bytearray(file.read_bytes())
    content[8192:40960] = bytes(40960 - 8192)
    file.write_bytes(content)


def lose_study(folder: Path) -> None:
    for name in ("study.db", "study-copy.db"):
        (folder / "study" / name).unlink()


def cut_checkpoints(folder: Path) -> None:
    for file in folder.glob("study/trials/*/checkpoint_*/model.safetensors"):
        if file.parent.name != "checkpoint_interim":
            os.truncate(file, file.stat().st_size // 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lose_ends, "brought to what the study knows"),
        (empty_study, "study.db cannot be read (it is empty): its copy of"),
        (truncate_study, "study.db cannot be read (database disk image is malformed): its copy of"),
        (zero_pages, "study.db cannot be read ("),
        (lose_study, "the study is made anew from MLflow and the trials' folders, with "),
        (cut_checkpoints, "MLflow's copy takes its place"),
    ],
)
def test_what_is_damaged_is_made_good(
    damage: Callable[[Path], None], line: str, copy: Path, study_options: list[object]
) -> None:
    damage(copy)
    lines = resume(copy, study_options)
    if damage is not cut_checkpoints:  # the best trial may be one that was not cut
        assert any(line in each for each in lines), lines
    check_exact(copy)


@pytest.mark.slow
def test_a_run_killed_within_an_epoch_loses_what_came_after_its_last_checkpoint(
    phantom_store: Path, tiny_training: list[str], tiny_network: list[str], tmp_path: Path
) -> None:
    """One epoch of many steps: there is nothing but what is saved by the clock."""
    options = ["--data", phantom_store, "--output", "run", "--epochs", 1, *tiny_training, *tiny_network]
    options += ["--training.steps-per-batch", 300, "--training.checkpoint-minutes", 0.01]
    job = Job(tmp_path, "train", *options, "--resume", "auto")  # there is nothing to go on with
    job.until(lambda: (tmp_path / "run/train/checkpoint_interim/state.pt").is_file())
    time.sleep(1.0)
    job.kill()
    code, lines = Job(tmp_path, "train", *options, "--resume", "auto").end()
    assert code == 0, lines
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    found = client.get_experiment_by_name("train")
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    assert run.data.tags["resumed_from"] == "checkpoint_interim"
    history = client.get_metric_history(run.info.run_id, "loss/train")
    assert [each.step for each in history] == list(range(1, 601))
    assert not (tmp_path / "run/train/checkpoint_interim").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_saves_first(
    number: int,
    code: int,
    phantom_store: Path,
    tiny_training: list[str],
    tiny_network: list[str],
    tmp_path: Path,
) -> None:
    options = ["--data", phantom_store, "--output", "run", "--epochs", 1, *tiny_training, *tiny_network]
    options += ["--training.steps-per-batch", 2000]
    job = Job(tmp_path, "train", *options)

    job.until(lambda: any(steps >= 10 for steps in steps_of_running(tmp_path / "mlflow.db")))
    job.process.send_signal(number)
    found, lines = job.end()
    assert found == code, lines
    assert "1 training may save a checkpoint first, 30 s at most" in "\n".join(lines)
    assert lines[-1].startswith("interrupted; go on with: ossnet train ")
    assert (tmp_path / "run/train/checkpoint_interim/state.pt").is_file()
    assert not [line for line in lines if "Traceback" in line or line.startswith("warning")], lines
