"""Training on nodes that have not the store's files: nodes of one cluster, each with a cache of its own."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from node_cluster import cluster, may_hide_folders
from s3_server import s3_server

from ossnet.data import Store
from ossnet.data.store.cache import DataConfig
from ossnet.distributed.data.node_files import chunk_bytes
from ossnet.distributed.data.store_handle import StoreHandle


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not may_hide_folders(), reason="needs the right to mount")
def test_a_node_without_the_files_trains_as_one_that_has_them(phantom_store, tmp_path):
    with cluster(tmp_path) as nodes:
        nodes.add("far", hidden=phantom_store)
        far = nodes.train(phantom_store, "run-far")
        used = {Path(entry.file).name for entry in Store.open(phantom_store).manifest.cases.values()}
        assert nodes.cached("far") <= used
        assert len(nodes.cached("far")) >= 9  # eight to train on, one or more to validate
        assert not nodes.cached("head")
        assert "Spilled" not in nodes.memory_summary()
    one = tmp_path / "one"
    one.mkdir()
    with cluster(one) as nodes:
        nodes.add("near")
        near = nodes.train(phantom_store, "run-near")
        assert not nodes.cached("near")
        weights = nodes.weights("run-near")
    assert far["loss/train_epoch"] == near["loss/train_epoch"]
    assert far["dice/val"] == near["dice/val"]
    assert (tmp_path / "run-far" / "checkpoint" / "model.safetensors").read_bytes() == weights


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_each_node_opens_each_object_once(phantom_store, tmp_path):
    with s3_server(tmp_path) as s3, cluster(tmp_path, s3.environment) as nodes:
        s3.upload(phantom_store, "store")
        url = f"s3://{s3.bucket}/store"
        nodes.add("first")
        nodes.add("second")
        metrics = nodes.train(url, "run", "--workers", "2")
        assert metrics["epoch"] in (2, 4)  # of the better checkpoint
        files = [entry.file for entry in Store.open(phantom_store).manifest.cases.values()]
        here = [sum(Path(file).name in nodes.cached(name) for name in ("first", "second")) for file in files]
        assert [s3.opened[f"store/{file}"] for file in files] == here
        assert max(here) == 2
        assert "Spilled" not in nodes.memory_summary()


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("read_by", ["each-node", "cpu-nodes"])
def test_a_handle_opens_the_store_wherever_it_lies(phantom_store, tmp_path, read_by):
    origin = Store.open(phantom_store)
    config = DataConfig(cache_folder=str(tmp_path / "cache"), read_by=read_by)
    with s3_server(tmp_path) as s3:
        s3.upload(phantom_store, "store")
        place = f"endpoint_override={s3.host}:{s3.port}&scheme=http&region=us-east-1"
        handle = StoreHandle.of(origin, config)
        elsewhere = replace(handle, home="0" * 56)  # a file system that this node shares
        on_s3 = replace(handle, location=f"s3://key:secret@{s3.bucket}/store?{place}")
        for each, cached in ((handle, 0), (elsewhere, 0), (on_s3, 8)):
            opened = each.open(config)
            assert opened.manifest == origin.manifest
            for case in origin.split("training"):
                np.testing.assert_array_equal(opened.case(case).voxels, origin.case(case).voxels)
            assert len(list((tmp_path / "cache").glob("*/*.arrow"))) == cached


def test_all_nodes_together_keep_to_their_share_of_the_object_store():
    for count, memory in ((1, 2e9), (2, 1.5e9), (17, 4e10)):
        cluster = [{"CPU": 4, "object_store_memory": memory}] * count
        chunk = chunk_bytes(cluster, 0.1)
        assert max(count - 1, 1) * 4 * 2 * chunk <= 0.1 * memory
    assert chunk_bytes([{"CPU": 4}], 1.0) == 16 << 20


SPACE = """
POINTS_TO_EVALUATE = [{"rate": 0.001}, {"rate": 0.002}]

def space(trial):
    return {"optimizer.learning_rate": trial.suggest_float("rate", 0.0, 0.01)}
"""


def trials(folder: Path) -> list[tuple[float, str, dict[int, float]]]:
    """Learning rate, end and validations of each trial of a study, in their order."""
    found = optuna.load_study(study_name="rates", storage=f"sqlite:///{folder / 'study.db'}").trials
    return [(trial.params["rate"], trial.state.name, trial.intermediate_values) for trial in found]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not may_hide_folders(), reason="needs the right to mount")
def test_trials_run_on_a_node_without_the_files_as_on_one_that_has_them(phantom_store, tmp_path):
    options = (
        "--space",
        "rates.py",
        "--trials",
        "2",
        "--training.epochs",
        "40",  # so that none is done before the process of the other has started
        "--training.validate-every",
        "20",
        "--early-stopping.algorithm",
        "none",
    )
    with s3_server(tmp_path) as s3, cluster(tmp_path, s3.environment) as nodes:
        (tmp_path / "rates.py").write_text(SPACE)
        nodes.add("near")
        nodes.add("far", hidden=phantom_store)
        done = nodes.job("tune", phantom_store, "from-disk", *options)
        assert done.returncode == 0, done.stderr[-3000:]
        assert len(nodes.cached("far")) >= 9
        assert not nodes.cached("near")
        s3.upload(phantom_store, "store")
        done = nodes.job("tune", f"s3://{s3.bucket}/store", "from-s3", *options)
        assert done.returncode == 0, done.stderr[-3000:]
        assert len(nodes.cached("near")) >= 9
        assert "Spilled" not in nodes.memory_summary()
    found = trials(tmp_path / "from-disk")
    assert [(rate, end) for rate, end, _ in found] == [(0.001, "COMPLETE"), (0.002, "COMPLETE")]
    assert trials(tmp_path / "from-s3") == found


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not may_hide_folders(), reason="needs the right to mount")
def test_a_node_that_cannot_read_the_store_costs_no_trial(phantom_store, tmp_path):
    """It has neither the files nor a cache: its trials start again on the other node, and it is avoided."""
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "cache").write_text("a file where the folder should be")
    options = ("--space", "rates.py", "--trials", "4", "--training.epochs", "2")
    with cluster(tmp_path) as nodes:
        (tmp_path / "rates.py").write_text(SPACE)
        nodes.add("near")
        nodes.add("far", hidden=phantom_store)
        done = nodes.job("tune", phantom_store, "study", *options, "--early-stopping.algorithm", "none")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "expected a cache in" in done.stderr
    assert done.stderr.count("no further trial starts on node") == 1
    assert [end for _, end, _ in trials(tmp_path / "study")] == ["COMPLETE"] * 4
