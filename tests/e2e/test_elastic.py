"""A node goes while a network is trained, and another comes: the same steps, each of them once."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from ray.cluster_utils import Cluster

ROOT = Path(__file__).parents[2]
EPOCHS, STEPS = 60, 120
OPTIONS = (
    "--model oss-net-c --model.encoder-channels 4 8 --model.decoder-width 32 --model.decoder-blocks 2 "
    "--model.patch-edge 3 --sampling.points 2048 --training.batch-size 4 --training.validation-cases 1 "
    f"--epochs {EPOCHS} --training.validate-every {EPOCHS} --optimizer.learning-rate 5e-4"
).split()
# Ray looks for new nodes less often by default: a restart costs more than a minute on fewer of them.
SOON = """
from ossnet.commands.main import run_job
from ossnet.distributed.training import trainer
trainer._RESIZE_EVERY_S = 2.0
run_job("train")
"""


@pytest.fixture
def nodes() -> Iterator[Cluster]:
    """A head of one CPU; nodes of one CPU each are added and removed."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        yield cluster
    finally:
        cluster.shutdown()


class Job:
    """A training in a process of its own, which the nodes run."""

    def __init__(self, address: str, store: Path, folder: Path, workers: str) -> None:
        self.output, self._log = folder / workers, folder / f"{workers}.log"
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        environment = {**os.environ, "RAY_ADDRESS": address, "MLFLOW_TRACKING_URI": uri}
        command = [sys.executable, "-c", SOON, *OPTIONS, "--data", str(store), "--output", str(self.output)]
        command += ["--workers", workers, "--experiment", workers]
        with self._log.open("wb") as sink:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=sink, stderr=subprocess.STDOUT
            )
        self._client, self._experiment = MlflowClient(uri), workers

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_until(self, condition: Callable[[], object], timeout_s: float = 240) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.1)

    def end(self) -> None:
        assert self._process.wait(timeout=600) == 0, self.log

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def history(self, metric: str) -> list[tuple[int, float]]:
        experiment = self._client.get_experiment_by_name(self._experiment)
        assert experiment is not None
        runs: list[Run] = self._client.search_runs([experiment.experiment_id])
        (run,) = runs
        points = self._client.get_metric_history(run.info.run_id, metric)
        return sorted((point.step, point.value) for point in points)


@pytest.mark.slow
def test_a_node_goes_and_another_comes(nodes: Cluster, phantom_store: Path, tmp_path: Path) -> None:
    second = nodes.add_node(num_cpus=1)
    address = str(nodes.address)
    job = Job(address, phantom_store, tmp_path, "1-2")
    try:
        job.wait_until(lambda: len(list(job.output.glob("train/checkpoint_*"))) > 1)
        nodes.remove_node(second, allow_graceful=False)
        job.wait_until(lambda: "training goes on with 1 worker\n" in job.log)
        nodes.add_node(num_cpus=1)
        job.wait_until(lambda: "training goes on with 2 workers\n" in job.log)
        job.end()
    finally:
        job.kill()
    assert "training begins with 2 workers" in job.log
    assert "was lost; the cluster has 1 node with 1 CPU (" in job.log
    assert [workers for _, workers in job.history("workers")] == [2, 1, 2]
    losses = job.history("loss/train")
    assert [step for step, _ in losses] == list(range(1, STEPS + 1))  # none missing, none twice

    steady = Job(address, phantom_store, tmp_path, "2")
    try:
        steady.end()
    finally:
        steady.kill()
    expected = steady.history("loss/train")
    assert [step for step, _ in expected] == list(range(1, STEPS + 1))
    differences = [abs(one - other) for (_, one), (_, other) in zip(losses, expected, strict=True)]
    assert max(differences) < 1e-3
    assert expected[-1][1] < 0.9 * expected[0][1]  # there is a curve to follow
