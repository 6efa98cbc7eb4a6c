"""A training that is killed or interrupted goes on as if nothing had been."""

import signal
import time
from pathlib import Path

import pytest
from chaos_study import steps_of_running
from job_process import JobProcess
from mlflow import MlflowClient
from mlflow.entities import Run


def only_run(folder: Path) -> tuple[Run, list[int]]:
    """The only run in MLflow, and its steps."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    found = client.get_experiment_by_name("train")
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    return run, [each.step for each in client.get_metric_history(run.info.run_id, "loss/train")]


@pytest.fixture
def options(phantom_store: Path, tiny_training: list[str], tiny_network: list[str]) -> list[object]:
    return ["--data", phantom_store, "--output", "run", *tiny_training, *tiny_network]


@pytest.mark.slow
@pytest.mark.chaos("SIGKILL of a training in its first epoch")
@pytest.mark.parametrize("after", ["config.json", "train"])
def test_a_run_killed_in_its_first_epoch(after: str, options: list[object], tmp_path: Path) -> None:
    """There is no checkpoint yet; what names the run is there, so that it is continued or another begun."""
    options = [*options, "--epochs", 2]
    job = JobProcess(tmp_path, "train", *options)
    job.until((tmp_path / "run" / after).exists)
    job.kill()
    code, lines = JobProcess(tmp_path, "train", *options).end()
    assert code == 2
    assert "found a run (config.json); continue it by --resume, or give another --output" in lines[-1]
    code, lines = JobProcess(tmp_path, "train", *options, "--resume").end()
    assert code == 0, lines
    assert "Traceback" not in "\n".join(lines)
    run, steps = only_run(tmp_path)
    assert run.info.status == "FINISHED"
    assert steps == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.chaos("SIGKILL of a training within an epoch, after a checkpoint by the clock")
def test_a_run_killed_within_an_epoch_loses_what_came_after_its_last_checkpoint(
    options: list[object], tmp_path: Path
) -> None:
    """One epoch of many steps: there is nothing but what is saved by the clock."""
    options = [*options, "--epochs", 1, "--training.steps-per-batch", 300]
    options += ["--training.checkpoint-minutes", 0.01, "--resume", "auto"]  # at first there is nothing
    job = JobProcess(tmp_path, "train", *options)
    job.until((tmp_path / "run/train/checkpoint_interim/state.pt").is_file)
    time.sleep(1.0)
    job.kill()
    code, lines = JobProcess(tmp_path, "train", *options).end()
    assert code == 0, lines
    run, steps = only_run(tmp_path)
    assert run.data.tags["resumed_from"] == "checkpoint_interim"
    assert steps == list(range(1, 601))
    assert not (tmp_path / "run/train/checkpoint_interim").exists()


@pytest.mark.slow
@pytest.mark.chaos("a training interrupted")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_saves_first(
    number: int, code: int, options: list[object], tmp_path: Path
) -> None:
    options = [*options, "--epochs", 1, "--training.steps-per-batch", 2000]
    job = JobProcess(tmp_path, "train", *options)
    job.until(lambda: any(steps >= 10 for steps in steps_of_running(tmp_path / "mlflow.db")))
    job.process.send_signal(number)
    found, lines = job.end()
    assert found == code, lines
    assert "1 training may save a checkpoint first, 30 s at most" in "\n".join(lines)
    assert lines[-1].startswith("interrupted; go on with: ossnet train ")
    assert (tmp_path / "run/train/checkpoint_interim/state.pt").is_file()
    assert not [line for line in lines if "Traceback" in line or line.startswith("warning")], lines
