"""A study whose driver is killed again and again ends as if nothing had been."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient

ROOT = Path(__file__).parents[2]
TRIALS = 12
SPACE = """
def space(trial):
    return {"optimiser.learning_rate": trial.suggest_float("rate", 1e-4, 0.02, log=True)}
"""


def begin(folder: Path, *options: object) -> subprocess.Popen[bytes]:
    """Start the job with a group of its own: its cluster dies with it, as on a lost machine."""
    command = [sys.executable, str(ROOT / "jobs" / "tune.py"), *map(str, options)]
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)


def ended_trials(folder: Path) -> int:
    database = folder / "study" / "study.db"
    if not database.is_file():
        return 0
    storage = f"sqlite:///{database}"
    if not optuna.get_all_study_names(storage):
        return 0
    trials = optuna.load_study(study_name="mine", storage=storage).trials
    return sum(trial.state.is_finished() for trial in trials)


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
