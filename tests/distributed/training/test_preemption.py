"""A node that is to be taken away, as a spot machine after its notice: what it trains is saved before."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from node_cluster import SMALL, cluster

from ossnet.metric_names import RESUMED

EPOCHS, STEPS_PER_EPOCH = 2, 300


def steps(database: Path) -> int:
    """The last step in MLflow."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
            query = "SELECT coalesce(max(step), 0) FROM metrics WHERE key = 'loss/train'"
            return int(connection.execute(query).fetchone()[0])
    except sqlite3.OperationalError:  # it is being made
        return 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_notice_is_a_checkpoint_from_which_another_node_goes_on(
    phantom_store: Path, tmp_path: Path
) -> None:
    options = [word for option, values in SMALL.items() for word in (option, *values.split())]
    options += ["--data", str(phantom_store), "--output", "run", "--experiment", "mine", "--workers", "1"]
    options += ["--epochs", str(EPOCHS), "--training.steps-per-batch", str(STEPS_PER_EPOCH // 2)]
    options += ["--training.checkpoint-minutes", "60", "--training.validation-cases", "1"]
    database, interim = tmp_path / "mlflow.db", tmp_path / "run" / "train" / "checkpoint_interim"
    with cluster(tmp_path, {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "20"}) as nodes:
        nodes.add("a")
        driver = nodes.start("train", *options)
        driver.until(lambda: steps(database) > 10)
        assert not interim.exists()
        nodes.processes.pop("a").terminate()
        driver.until(interim.exists)
        nodes.add("b")
        driver.end()
    said = driver.log.read_text()
    assert "is to go in " in said
    assert said.count(": trainings save a checkpoint") == 1
    client = MlflowClient(f"sqlite:///{database}")
    experiment = client.get_experiment_by_name("mine")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.tags[RESUMED] == interim.name
    logged = [each.step for each in client.get_metric_history(run.info.run_id, "loss/train")]
    assert logged == list(range(1, EPOCHS * STEPS_PER_EPOCH + 1))
