"""Faults that need a study of another kind: more trials, a large one, two jobs that go on at once."""

import time
from pathlib import Path

import optuna
import pytest
from chaos_study import NAME, SPACE, count_ended
from job_process import JobProcess
from mlflow import MlflowClient
from services import mlflow_server

TRIALS = 12


def check_runs(database: Path, client: MlflowClient) -> None:
    """MLflow holds every trial of Optuna's study with its end and every step, once."""
    trials = optuna.load_study(study_name=NAME, storage=f"sqlite:///{database}").trials
    found = client.get_experiment_by_name(NAME)
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
@pytest.mark.chaos("MLflow's server killed for a minute, in which trials end and are stopped early")
def test_an_mlflow_server_that_goes_and_comes_back(
    phantom_store: Path, tiny_training: list[str], tiny_network: list[str], tmp_path: Path
) -> None:
    """When all is over it has everything."""
    (tmp_path / f"{NAME}.py").write_text(SPACE)
    options = ["--data", phantom_store, "--space", f"{NAME}.py", "--trials", TRIALS, "--output", "study"]
    options += [*tiny_training, *tiny_network, "--training.epochs", "4"]
    database = tmp_path / "study" / "study.db"
    with mlflow_server(tmp_path) as port:
        uri = f"http://127.0.0.1:{port}"
        job = JobProcess(tmp_path, "tune", *options, environment={"MLFLOW_TRACKING_URI": uri})
        job.until(lambda: count_ended(database) >= 2)
    gone = time.monotonic()
    job.until(lambda: count_ended(database) >= 8 and time.monotonic() > gone + 60)
    with mlflow_server(tmp_path, port):
        code, lines = job.end()
        assert code == 0, lines
        assert "warning" not in "\n".join(lines)
        check_runs(database, MlflowClient(uri))


def meminfo(name: str) -> int:
    """A line of Linux's account of memory, in KiB."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


@pytest.mark.slow
@pytest.mark.chaos("the machine's memory runs out")
def test_a_trial_killed_as_its_machine_runs_out_of_memory(
    phantom_store: Path, tiny_training: list[str], tiny_network: list[str], tmp_path: Path
) -> None:
    """Ray's own watch over memory kills a trial of a million points; the study continues without it."""
    total, available = meminfo("MemTotal"), meminfo("MemAvailable")
    if available < 8 * 2**20:
        pytest.skip("needs 8 GiB of free memory")
    environment = {
        "RAY_memory_usage_threshold": f"{(total - available + 3 * 2**20) / total:.3f}",
        "RAY_memory_monitor_refresh_ms": "100",
    }
    (tmp_path / f"{NAME}.py").write_text(
        'POINTS_TO_EVALUATE = [{"log2_points": 20}, {"log2_points": 6}]\n'
        "def space(trial):\n"
        '    return {"sampling.points": 2 ** trial.suggest_int("log2_points", 6, 20)}\n'
    )
    options = ["--data", phantom_store, "--space", f"{NAME}.py", "--trials", 2, "--output", "study"]
    options += [*tiny_training, *tiny_network, "--training.epochs", "2"]
    code, lines = JobProcess(tmp_path, "tune", *options, environment=environment).end()
    assert code == 0, lines
    assert "out of host memory: killed, as its machine ran out of memory" in "\n".join(lines)
    database = tmp_path / "study" / "study.db"
    large, small = optuna.load_study(study_name=NAME, storage=f"sqlite:///{database}").trials
    assert (large.state.name, small.state.name) == ("PRUNED", "COMPLETE")
    assert large.user_attrs["end"] == "infeasible: out of host memory"
    assert large.constraints["memory"] > 0
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    found = client.get_experiment_by_name(NAME)
    assert found is not None
    (run,) = client.search_runs([found.experiment_id], "tags.trial = '0'")
    assert (run.info.status, run.data.tags["stop_reason"]) == ("KILLED", "infeasible")
