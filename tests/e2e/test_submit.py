"""`ray job submit` of jobs/tune.py against a cluster that requires a token."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))


@dataclass(frozen=True)
class Cluster:
    address: str
    home: Path
    environment: dict[str, str]
    """The environment of a user who has the token."""


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def clean_environment(home: Path) -> dict[str, str]:
    """Nothing of Ray or MLflow from outside, a home of its own, and this interpreter first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "HOME": str(home), "PATH": path, "OMP_NUM_THREADS": "1"}


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a head and all it started; by its own process group, as other clusters may run here."""
    for how, timeout_s in ((signal.SIGTERM, 5), (signal.SIGKILL, 10)):
        os.killpg(process.pid, how)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            continue
        return


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    home = Path(tempfile.mkdtemp(prefix="ossnet-"))  # short: a socket's path has an end
    settings = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    environment = clean_environment(home) | settings
    subprocess.run([RAY, "get-auth-token", "--generate"], env=environment, check=True, capture_output=True)
    port, dashboard, *others = free_ports(6)
    names = (
        "ray-client-server-port",
        "dashboard-agent-listen-port",
        "dashboard-agent-grpc-port",
        "metrics-export-port",
    )
    command = [RAY, "start", "--head", "--block", "--num-cpus=2", f"--temp-dir={home / 'ray'}"]
    command += [f"--port={port}", f"--dashboard-port={dashboard}"]
    command += [f"--{name}={number}" for name, number in zip(names, others, strict=True)]
    log = home / "head.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, env=environment, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield Cluster(f"http://127.0.0.1:{dashboard}", home, environment)
    finally:
        stop(process)
        shutil.rmtree(home, ignore_errors=True)


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
