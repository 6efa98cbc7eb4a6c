"""MLflow on the head of a rented cluster: its page on loopback alone, its file backed up to the bucket."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from mlflow import MlflowClient
from node_cluster import free_port
from s3_server import S3Server, s3_server

from ossnet.distributed.tracking.client import MetricPoint, RunSpec, Tracker, TrackingConfig

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "cluster" / "mlflow.sh"
START_S, BACKUP_S = 300, 120
STEPS = list(range(1, 31))


@pytest.mark.parametrize(
    ("cloud", "bucket"),
    [
        ("aws", "s3://BUCKET"),
        ("gcp", "gs://BUCKET"),
        ("azure", "abfs://CONTAINER@ACCOUNT.dfs.core.windows.net"),
    ],
)
def test_heads_restore_the_runs_before_ray_starts(cloud: str, bucket: str) -> None:
    cluster = yaml.safe_load((ROOT / "cluster" / f"{cloud}.yaml").read_text())
    stop, mlflow, start = cluster["head_start_ray_commands"]
    assert stop.endswith("ray stop")
    assert mlflow.endswith(f"bash ~/install/mlflow.sh {bucket}/mlflow")
    assert cluster["file_mounts"]["/home/ubuntu/install/mlflow.sh"] == "cluster/mlflow.sh"
    files = bucket.replace("abfs:", "abfss:")  # as MLflow calls it
    assert f" MLFLOW_DEFAULT_ARTIFACT_ROOT={files}/mlartifacts;" in start
    assert not any("mlflow.sh" in command for command in cluster["worker_start_ray_commands"])


class Head:
    """A head with a disk of its own, on which the script runs as the cloud files have it."""

    def __init__(self, home: Path, s3: S3Server) -> None:
        home.mkdir()
        self.home, self.port = home, free_port()
        own = {"HOME": str(home), "MLFLOW_PORT": str(self.port), "PYTHONPATH": str(ROOT)}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.environment = os.environ | s3.environment | own | {"PATH": path}
        self.environment.pop("XDG_CACHE_HOME", None)

    def start(self, url: str) -> subprocess.CompletedProcess[str]:
        command = ["bash", str(SCRIPT), url]
        return subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=START_S, check=False
        )

    def processes(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("HOME") == str(self.home):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def kill(self) -> None:
        """End all at once, as where the machine is lost."""
        for process in self.processes():
            process.send_signal(signal.SIGKILL)

    def log(self) -> None:
        """What a job leaves in MLflow."""
        tracker = Tracker(TrackingConfig.at(self.home / "ossnet", "mine"))
        tracker.open_run(RunSpec("a", "a"))
        tracker.log("a", [MetricPoint("loss/train", 0.5, step, 1000 + step) for step in STEPS])
        tracker.flush()

    def steps(self) -> list[int]:
        """Those of the only run, as MLflow's server on loopback has them."""
        client = MlflowClient(f"http://127.0.0.1:{self.port}")
        experiment: Any = client.get_experiment_by_name("mine")
        (run,) = client.search_runs([experiment.experiment_id])
        return [each.step for each in client.get_metric_history(run.info.run_id, "loss/train")]

    def answers(self) -> bool:
        return ("127.0.0.1", self.port) in self.listeners()

    def listeners(self) -> set[tuple[str, int]]:
        found = [each for process in self.processes() for each in process.net_connections("tcp")]
        return {(each.laddr.ip, each.laddr.port) for each in found if each.status == psutil.CONN_LISTEN}


def until(condition: Callable[[], object], limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_head_that_is_made_anew_goes_on_with_the_runs(tmp_path: Path) -> None:
    with s3_server(tmp_path) as s3:
        url, key = f"s3://{s3.bucket}/mlflow", {"Bucket": s3.bucket, "Key": "mlflow/mlflow.db"}
        first, anew = Head(tmp_path / "first", s3), Head(tmp_path / "anew", s3)
        try:
            done = first.start("s3://no-such-bucket/mlflow")
            assert (done.returncode, done.stderr.count("\n"), first.processes()) == (2, 1, [])
            done = first.start(url)
            assert (done.returncode, done.stderr) == (0, "")
            first.log()
            until(first.answers, START_S)
            assert first.steps() == STEPS
            assert {address for address, _ in first.listeners()} == {"127.0.0.1"}
            before = s3.client().head_object(**key)["ETag"]
            until(lambda: s3.client().head_object(**key)["ETag"] != before, BACKUP_S)
            first.kill()

            done = anew.start(url)
            assert (done.returncode, done.stderr) == (
                0,
                f"{anew.home}/ossnet/mlflow.db is restored from {url}/mlflow.db\n",
            )
            until(anew.answers, START_S)
            assert anew.steps() == STEPS
            running = len(anew.processes())
            assert anew.start(url).returncode == 0  # as `ray up` on a head that is there
            until(lambda: len(anew.processes()) == running, START_S)
            assert anew.steps() == STEPS
        finally:
            first.kill()
            anew.kill()
