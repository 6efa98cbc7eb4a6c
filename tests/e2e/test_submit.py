"""`ray job submit` of jobs/tune.py against a cluster that requires a token."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from token_cluster import RAY, Cluster, clean_environment, token_cluster

ROOT = Path(__file__).parents[2]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    with token_cluster() as cluster:
        yield cluster


def submit(cluster: Cluster, environment: dict[str, str], *job: object) -> subprocess.CompletedProcess[str]:
    command = [RAY, "job", "submit", "--address", cluster.address, "--working-dir", ".", "--", *map(str, job)]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600
    )


@pytest.mark.slow
def test_a_study_is_submitted_with_a_token_and_rejected_without(
    cluster: Cluster,
    empty_mlflow_store: Path,
    phantom_store: Path,
    tiny_training: list[str],
    tiny_network: list[str],
    tmp_path: Path,
) -> None:
    # Ray deletes the job's working directory: the store of runs is in the home of the cluster's user
    runs_folder = cluster.home / "ossnet"
    runs_folder.mkdir()
    shutil.copy(empty_mlflow_store, runs_folder)  # MLflow takes seconds to make one
    job = ["python", "jobs/tune.py", "--data", phantom_store, "--space", "search_spaces/sampling.py"]
    job += ["--trials", "1", "--output", tmp_path / "study", "--training.epochs", "1"]
    job += [*tiny_training, *tiny_network]

    stranger = clean_environment(tmp_path)
    rejected = submit(cluster, stranger, *job)
    assert rejected.returncode != 0
    assert "authentication token" in (rejected.stdout + rejected.stderr).lower()
    assert not (tmp_path / "study").exists()

    done = submit(cluster, cluster.environment, *job)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    assert "best trial" in done.stdout
    assert (tmp_path / "study" / "checkpoint" / "model.safetensors").is_file()
    client = MlflowClient(f"sqlite:///{runs_folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("sampling")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 2  # of the study and of its trial
