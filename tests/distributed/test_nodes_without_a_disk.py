"""Two and three nodes that have S3 in common and no disk: scans of the head alone, S3 that hangs, a node and
then the head lost, the last training of a study."""

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from node_cluster import SMALL, Nodes, cluster, may_hide_folders
from s3_server import S3Server, s3_server
from tcp_proxy import TcpProxy, tcp_proxy

from ossnet.data import write_phantom
from ossnet.inference import Predictor

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not may_hide_folders(), reason="needs the right to mount"),
]
SCANS = 10
EPOCHS, STEPS_PER_EPOCH = 12, 40
STEPS = EPOCHS * STEPS_PER_EPOCH
PAUSE_S = 20.0
SPACE = """
def space(trial):
    return {"optimizer.learning_rate": trial.suggest_float("rate", 1e-3, 1e-2)}
"""
OUTLIVED_S = 15.0  # by which nodes outlive their head, and may save checkpoints


@dataclass(frozen=True)
class Place:
    """What all nodes have in common, and what is the head's alone."""

    folder: Path
    s3: S3Server
    way: TcpProxy
    """To the server, for all that runs on the nodes."""

    @property
    def head(self) -> Path:
        """A folder that no other node sees."""
        return self.folder / "of-the-head"

    @property
    def disk(self) -> Path:
        """Where the head keeps copies; it is lost with the head."""
        return self.head / "disk"

    @property
    def runs(self) -> str:
        """The URL of all outputs."""
        return f"s3://{self.s3.bucket}/runs"

    def lose_disk(self) -> None:
        """Go on with a head that has nothing."""
        shutil.rmtree(self.disk)
        self.disk.mkdir()

    @contextmanager
    def nodes(self, *names: str) -> Iterator[Nodes]:
        """A head and nodes."""
        environment = replace(self.s3, port=self.way.port).environment
        environment["XDG_CACHE_HOME"] = str(self.disk)
        environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{self.database}"
        with cluster(self.folder, environment) as nodes:
            nodes.add(*names, hidden=self.head)
            yield nodes

    @property
    def database(self) -> Path:
        """MLflow's, which outlives the head, as on a volume of its own."""
        return self.head / "volume" / "mlflow.db"

    def steps(self) -> int:
        """The last step of any run in MLflow."""
        if not self.database.exists():
            return 0
        query = "SELECT coalesce(max(step), 0) FROM metrics WHERE key = 'loss/train'"
        try:
            with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
                return int(connection.execute(query).fetchone()[0])
        except sqlite3.OperationalError:  # it is being made
            return 0

    def runs_of(self, experiment: str) -> tuple[MlflowClient, list[Run]]:
        """MLflow's client, and the runs of an experiment."""
        client = MlflowClient(f"sqlite:///{self.database}")
        found = client.get_experiment_by_name(experiment)
        assert found is not None
        return client, client.search_runs([found.experiment_id])


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with s3_server(tmp_path) as s3, tcp_proxy(s3.port) as way:
        made = Place(tmp_path, s3, way)
        made.disk.mkdir(parents=True)
        made.database.parent.mkdir()
        yield made


def small_options() -> list[str]:
    return [word for option, values in SMALL.items() for word in (option, *values.split())]


def labels(place: Place, name: str) -> dict[str, np.ndarray]:
    """The label maps of an output in S3, by the scans' names."""
    found, aside = {}, place.folder / "label-map.nii.gz"
    for key in place.s3.names(f"runs/{name}/"):
        if key.endswith("_seg.nii.gz"):
            place.s3.client().download_file(place.s3.bucket, f"runs/{name}/{key}", str(aside))
            found[key.removesuffix("_seg.nii.gz")] = np.asarray(nibabel.load(aside).dataobj)
    return found


def test_scans_and_networks_of_the_head_alone_reach_all_nodes(place: Place, phantom_checkpoint: Path) -> None:
    """Of two nodes one is killed; every scan has its result in S3 once, and no node is asked for it again."""
    scans = write_phantom(place.head / "scans", cases=SCANS, shape=(48, 40, 32))
    checkpoint = Path(shutil.copytree(phantom_checkpoint, place.head / "network" / "checkpoint"))
    network = Predictor.from_checkpoint(checkpoint)
    expected = {
        path.name.removesuffix(".nii.gz"): network(path).labels for path in (scans / "imagesTr").iterdir()
    }
    place.s3.upload(scans, "scans")
    place.s3.upload(checkpoint, "network/checkpoint")
    bucket = f"s3://{place.s3.bucket}"
    with place.nodes("a", "b") as nodes:
        made = nodes.result("prepare", "--source", scans, "--output", f"{bucket}/store")
        assert (made["cases"], made["excluded"]) == (SCANS, {})
        assert len(place.s3.names("store/cases/")) == SCANS

        common = ["--device", "cpu", "--workers", 2]
        options = ["--checkpoint", checkpoint, "--input", scans / "imagesTr", *common]
        found = nodes.result("predict", *options, "--output", f"{place.runs}/of-the-head")
        assert {case["output"] for case in found["cases"]} == {
            f"{place.runs}/of-the-head/{name}_seg.nii.gz" for name in expected
        }
        options = ["--checkpoint", f"{bucket}/network", "--input", f"{bucket}/scans/imagesTr", *common]
        options += ["--output", f"{place.runs}/of-s3"]
        driver = nodes.start("predict", *options)
        driver.until(lambda: len(labels(place, "of-s3")) >= 2)
        nodes.kill("b")
        driver.end()
        place.lose_disk()
        again = nodes.result("predict", *options[:-4], *options[-2:])  # in one process
        assert [case["cached"] for case in again["cases"]] == [True] * SCANS
    for name in ("of-the-head", "of-s3"):
        results = labels(place, name)
        assert results.keys() == expected.keys()
        assert all(np.array_equal(results[case], expected[case]) for case in expected)
        assert not [key for key in place.s3.names(f"runs/{name}/") if ".ossnet-lock" in key]
    left = [path for node in "ab" for path in (place.folder / node).rglob("*_seg.nii.gz")]
    assert left == []


def test_s3_hangs_then_a_node_is_lost_then_the_head(place: Place, phantom_store: Path) -> None:
    """Three workers, then two, then two on other nodes: each step and each epoch in MLflow once."""
    place.s3.upload(phantom_store, "store")
    options = ["--data", f"s3://{place.s3.bucket}/store", "--output", f"{place.runs}/train", *small_options()]
    options += ["--epochs", EPOCHS, "--training.steps-per-batch", 20, "--workers", "2-3"]
    options += ["--training.validation-cases", 1, "--training.checkpoint-minutes", 0.05]
    with place.nodes("a", "b", "c") as nodes:
        driver = nodes.start("train", *options)
        driver.until(lambda: place.steps() > STEPS_PER_EPOCH)
        place.way.pause()
        time.sleep(PAUSE_S)
        place.way.resume()
        before = place.steps()
        driver.until(lambda: place.steps() > before + STEPS_PER_EPOCH)
        driver.until(lambda: place.steps() % STEPS_PER_EPOCH)
        nodes.kill("c")
        driver.until(lambda: driver.says("training goes on with 2 workers"))
        lost = place.steps()
        driver.until(lambda: place.steps() > lost + STEPS_PER_EPOCH)
        driver.until(lambda: place.steps() % STEPS_PER_EPOCH)
        driver.process.kill()
        nodes.kill("head")
        time.sleep(OUTLIVED_S)
    reached = place.steps()
    assert before < lost < reached < STEPS
    place.lose_disk()
    with place.nodes("d", "e") as nodes:
        trained = nodes.result("train", *options, "--resume")
    assert trained["checkpoint"] == f"{place.runs}/train/checkpoint"
    client, (run,) = place.runs_of("train")
    assert run.info.status == "FINISHED"
    assert run.data.tags["resumed_from"].startswith("checkpoint_")
    for metric, steps in {
        "loss/train": range(1, STEPS + 1),
        "loss/train_epoch": range(STEPS_PER_EPOCH, STEPS + 1, STEPS_PER_EPOCH),
        "dice/val": range(2 * STEPS_PER_EPOCH, STEPS + 1, 2 * STEPS_PER_EPOCH),
    }.items():
        found = [each.step for each in client.get_metric_history(run.info.run_id, metric)]
        assert found == list(steps), metric
    workers = [round(each.value) for each in client.get_metric_history(run.info.run_id, "workers")]
    assert (workers[0], workers[-1]) == (3, 2)
    assert "checkpoint" in {file.path for file in client.list_artifacts(run.info.run_id)}
    assert not [key for key in place.s3.names("runs/train/") if ".ossnet-lock" in key]


def last_training(place: Place) -> tuple[Run, list[int]]:
    """The run of a study's last training, and its steps."""
    client, runs = place.runs_of("mine")
    (run,) = (run for run in runs if "refit" in run.data.tags)
    return run, [each.step for each in client.get_metric_history(run.info.run_id, "loss/train")]


def test_the_last_training_of_a_study_goes_on_where_the_head_has_lost_its_disk(
    place: Place, phantom_store: Path
) -> None:
    """It begins with the weights in S3, on two nodes, and goes on from its own checkpoint there."""
    place.s3.upload(phantom_store, "store")
    (place.folder / "mine.py").write_text(SPACE)
    options = ["--data", f"s3://{place.s3.bucket}/store", "--output", f"{place.runs}/study", *small_options()]
    options += ["--space", "mine.py", "--trials", 1, "--workers-per-trial", 2]
    options += ["--training.validation-cases", 1, "--max-time"]
    with place.nodes("a", "b") as nodes:
        driver = nodes.start("tune", *options, "4m")
        driver.until(lambda: driver.says("is trained on, for "))
        saved = "checkpoint_manager_snapshot.json"  # Ray writes it once a checkpoint is whole
        driver.until(lambda: any(key.endswith(saved) for key in place.s3.names("runs/study/refit/")))
        driver.process.kill()
        driver.process.wait()
        _, reached = last_training(place)
        place.lose_disk()
        done = nodes.result("tune", *options, "90s", "--resume")
        place.lose_disk()
        again = nodes.result("tune", *options, "90s", "--resume")  # all has ended
    assert done["refit"]
    assert (again["refit"], again["best"]) == (done["refit"], done["best"])
    assert done["checkpoint"] == f"{place.runs}/study/checkpoint"
    assert "checkpoint/model.safetensors" in place.s3.names("runs/study/")
    _, runs = place.runs_of("mine")
    last, steps = last_training(place)
    ended = {run.info.run_id: run.info.status for run in runs}
    (trial,) = (each.info.run_id for each in runs if each.data.tags.get("trial") == "0")
    assert len(ended) == 3
    assert ended.pop(trial) in ("FINISHED", "KILLED")  # the study's time may have ended it
    assert set(ended.values()) == {"FINISHED"}
    assert last.data.tags["refit"] == "0"
    assert last.data.params["training.initialize_from"] == f"{place.runs}/study/checkpoint"
    assert last.data.tags["resumed_from"].startswith("checkpoint_")
    assert steps == list(range(1, len(steps) + 1))
    assert len(steps) > len(reached)
