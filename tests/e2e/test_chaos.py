"""A run or study that is killed again and again, or whose MLflow server is, ends as if nothing had been."""

import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

ROOT = Path(__file__).parents[2]
TRIALS = 12
SPACE = """
def space(trial):
    return {"optimizer.learning_rate": trial.suggest_float("rate", 1e-4, 0.02, log=True)}
"""


def begin(folder: Path, *options: object, name: str = "tune") -> subprocess.Popen[bytes]:
    """Start the job with a group of its own: its cluster dies with it, as on a lost machine."""
    command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *map(str, options)]
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)


def ended_trials(folder: Path) -> int:
    database = folder / "study" / "study.db"
    if not database.is_file():
        return 0
    # Optuna would make the tables where there are none yet, at the same time as the job.
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        if not connection.execute("SELECT name FROM sqlite_master WHERE name = 'trials'").fetchall():
            return 0
        states = connection.execute("SELECT state FROM trials").fetchall()
    return sum(TrialState[state].is_finished() for (state,) in states)


@pytest.mark.slow
def test_a_driver_killed_three_times(
    phantom_store: Path, tiny_training: list[str], tiny_network: list[str], tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(SPACE)
    options = ["--data", phantom_store, "--space", "mine.py", "--trials", TRIALS, "--output", "study"]
    options += [*tiny_training, *tiny_network, "--training.epochs", "4"]
    chance = random.Random(0)
    resume: list[str] = []
    for kill in range(3):
        job = begin(tmp_path, *options, *resume)
        while ended_trials(tmp_path) < 3 * kill + 1:
            assert job.poll() is None, (tmp_path / "log.txt").read_text()
            time.sleep(0.2)
        time.sleep(chance.uniform(0.0, 2.0))
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
        resume = ["--resume"]
    job = begin(tmp_path, *options, *resume)
    assert job.wait() == 0, (tmp_path / "log.txt").read_text()

    trials = optuna.load_study(study_name="mine", storage=f"sqlite:///{tmp_path}/study/study.db").trials
    assert len(trials) == TRIALS
    assert {trial.state.name for trial in trials} <= {"COMPLETE", "PRUNED"}
    assert all(trial.intermediate_values for trial in trials)
    assert len({trial.params["rate"] for trial in trials}) == TRIALS
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    found = client.get_experiment_by_name("mine")
    assert found is not None
    runs = client.search_runs([found.experiment_id])
    assert len(runs) == TRIALS + 1
    for run in runs:
        steps = [each.step for each in client.get_metric_history(run.info.run_id, "loss/train")]
        assert len(steps) == len(set(steps))
        done = run.info.status in {"FINISHED", "KILLED"}
        assert done, run.data.tags
    names = {run.data.tags["trial"] for run in runs if "trial" in run.data.tags}
    assert names == {str(number) for number in range(TRIALS)}


def meminfo(name: str) -> int:
    """A line of Linux's account of memory, in KiB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@pytest.mark.slow
def test_a_trial_killed_as_its_machine_runs_out_of_memory(
    phantom_store: Path,
    tiny_training: list[str],
    tiny_network: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray's own watch over memory kills a trial of a million points; the study continues without it."""
    total, available = meminfo("MemTotal"), meminfo("MemAvailable")
    if available < 8 * 2**20:
        pytest.skip("needs 8 GiB of free memory")
    monkeypatch.setenv("RAY_memory_usage_threshold", f"{(total - available + 3 * 2**20) / total:.3f}")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    (tmp_path / "mine.py").write_text(
        'POINTS_TO_EVALUATE = [{"log2_points": 20}, {"log2_points": 6}]\n'
        "def space(trial):\n"
        '    return {"sampling.points": 2 ** trial.suggest_int("log2_points", 6, 20)}\n'
    )
    options = ["--data", phantom_store, "--space", "mine.py", "--trials", 2, "--output", "study"]
    job = begin(tmp_path, *options, *tiny_training, *tiny_network, "--training.epochs", "2")
    assert job.wait() == 0, (tmp_path / "log.txt").read_text()
    assert (
        "out of host memory: killed, as its machine ran out of memory" in (tmp_path / "log.txt").read_text()
    )
    database = tmp_path / "study" / "study.db"
    large, small = optuna.load_study(study_name="mine", storage=f"sqlite:///{database}").trials
    assert (large.state.name, small.state.name) == ("PRUNED", "COMPLETE")
    assert large.user_attrs["end"] == "infeasible: out of host memory"
    assert large.constraints["memory"] > 0
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    found = client.get_experiment_by_name("mine")
    assert found is not None
    (run,) = client.search_runs([found.experiment_id], "tags.trial = '0'")
    assert (run.info.status, run.data.tags["stop_reason"]) == ("KILLED", "infeasible")


def serve(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """An MLflow server with its processes in a group of their own, once it answers."""
    store = [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        f"{folder}/files",
    ]
    command = [sys.executable, "-m", "mlflow", "server", *store, "--port", str(port), "--workers", "1"]
    with (folder / "server.txt").open("ab") as log:
        server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    while True:
        assert server.poll() is None, (folder / "server.txt").read_text()
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
        except OSError:
            time.sleep(0.5)
        else:
            return server


def end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def check_runs(database: Path, client: MlflowClient) -> None:
    """MLflow holds every trial of Optuna's study with its end and every step, once."""
    trials = optuna.load_study(study_name="mine", storage=f"sqlite:///{database}").trials
    found = client.get_experiment_by_name("mine")
    assert found is not None
    runs = {run.data.tags.get("trial"): run for run in client.search_runs([found.experiment_id])}
    assert len(runs) == TRIALS + 1
    assert runs[None].info.status == "FINISHED"
    for trial in trials:
        run = runs[str(trial.number)]
        complete = trial.state.name == "COMPLETE"
        assert run.info.status == ("FINISHED" if complete else "KILLED")
        assert float(run.data.params["optimizer.learning_rate"]) == trial.params["rate"]
        dice = {each.step: each.value for each in client.get_metric_history(run.info.run_id, "dice/val")}
        assert {step // 2: value for step, value in dice.items()} == trial.intermediate_values
        steps = [each.step for each in client.get_metric_history(run.info.run_id, "loss/train")]
        assert sorted(steps) == list(range(1, 2 * int(run.data.metrics["epoch"]) + 1))
        files = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert files - {"overlays"} == ({"checkpoint", "config.json"} if complete else {"config.json"})


@pytest.mark.slow
def test_an_mlflow_server_that_goes_and_comes_back(
    phantom_store: Path,
    tiny_training: list[str],
    tiny_network: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is away for a minute, in which trials begin and end; when all is over it has everything."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    (tmp_path / "mine.py").write_text(SPACE)
    options = ["--data", phantom_store, "--space", "mine.py", "--trials", TRIALS, "--output", "study"]
    server = serve(tmp_path, port)
    job = begin(tmp_path, *options, *tiny_training, *tiny_network, "--training.epochs", "4")
    try:
        while ended_trials(tmp_path) < 2:
            assert job.poll() is None, (tmp_path / "log.txt").read_text()
            time.sleep(0.2)
        end(server)
        gone = time.monotonic()
        while ended_trials(tmp_path) < 8 or time.monotonic() < gone + 60:
            assert job.poll() is None, (tmp_path / "log.txt").read_text()
            time.sleep(0.2)
        server = serve(tmp_path, port)
        assert job.wait() == 0, (tmp_path / "log.txt").read_text()
        assert "warning" not in (tmp_path / "log.txt").read_text()
        check_runs(tmp_path / "study" / "study.db", MlflowClient(f"http://127.0.0.1:{port}"))
    finally:
        if job.poll() is None:
            end(job)
        end(server)


@pytest.mark.slow
@pytest.mark.parametrize("after", ["config.json", "train"])
def test_a_run_killed_in_its_first_epoch(
    after: str, phantom_store: Path, tiny_training: list[str], tiny_network: list[str], tmp_path: Path
) -> None:
    """There is no checkpoint yet; what names the run is there, so that it is continued or another begun."""
    options = ["--data", phantom_store, "--output", "run", *tiny_training, *tiny_network, "--epochs", "2"]
    log, job = tmp_path / "log.txt", begin(tmp_path, *options, name="train")
    while not (tmp_path / "run" / after).exists():
        assert job.poll() is None, log.read_text()
        time.sleep(0.02)
    end(job)
    assert begin(tmp_path, *options, name="train").wait() == 2
    last = log.read_text().splitlines()[-1]
    assert "found a run (config.json); continue it by --resume, or give another --output" in last
    assert begin(tmp_path, *options, "--resume", name="train").wait() == 0, log.read_text()
    assert "Traceback" not in log.read_text()
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    found = client.get_experiment_by_name("train")
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    assert run.info.status == "FINISHED"
    steps = [each.step for each in client.get_metric_history(run.info.run_id, "loss/train")]
    assert sorted(steps) == [1, 2, 3, 4]
