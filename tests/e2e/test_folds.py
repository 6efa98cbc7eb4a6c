"""`train --folds all`: a network for each fold, as one study; what ended stays when the job goes on."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from job_process import JobProcess
from mlflow import MlflowClient

from ossnet.data import write_phantom
from ossnet.training.checkpoint import check_checkpoint, load_state

Job = Callable[..., CompletedProcess[str]]
FOLDS = 3


@pytest.fixture
def folded_store(run_job: Job, tmp_path: Path) -> Path:
    scans = write_phantom(tmp_path / "scans", cases=6, shape=(20, 18, 16))
    done = run_job("prepare", "--source", scans, "--output", tmp_path / "store", "--folds", FOLDS)
    assert done.returncode == 0, done.stderr
    return tmp_path / "store"


@pytest.mark.slow
def test_all_folds_are_trained_and_an_interrupted_study_goes_on_with_the_next(
    folded_store: Path, run_job: Job, tiny_training: list[str], tiny_network: list[str], tmp_path: Path
) -> None:
    options = ["--data", folded_store, "--output", "study", "--folds", "all", "--epochs", "2"]
    environment = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    first = JobProcess(tmp_path, "train", *options, *tiny_training, *tiny_network, environment=environment)
    try:
        record = tmp_path / "study" / "folds.json"
        first.until(lambda: record.is_file() and len(json.loads(record.read_text())["metrics"]) == 1)
        os.kill(first.process.pid, signal.SIGTERM)
        code, lines = first.end(120)
    finally:
        first.kill()
    assert code == 143, lines
    assert lines[-1].startswith("interrupted; go on with: ossnet train "), lines
    assert "--folds all" in lines[-1]
    assert lines[-1].endswith("--resume"), lines
    kept = tmp_path / "study" / "fold_0" / "checkpoint" / "model.safetensors"
    written = kept.stat().st_mtime_ns

    again = JobProcess(
        tmp_path, "train", *options, *tiny_training, *tiny_network, "--resume", environment=environment
    )
    try:
        code, lines = again.end(300)
    finally:
        again.kill()
    assert code == 0, lines
    assert kept.stat().st_mtime_ns == written
    ended = json.loads(record.read_text())["metrics"]
    for fold in range(FOLDS):
        checkpoint = tmp_path / "study" / f"fold_{fold}" / "checkpoint"
        check_checkpoint(checkpoint)
        assert json.loads((checkpoint / "config.json").read_text())["training"]["fold"] == fold
        assert load_state(checkpoint)["dice"] == pytest.approx(ended[fold]["dice/val"])

    client = MlflowClient(environment["MLFLOW_TRACKING_URI"])
    (experiment,) = (each for each in client.search_experiments() if each.name == "train")
    runs = client.search_runs([experiment.experiment_id])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    (study,) = (run for run in runs if run not in children)
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {study.info.run_id}
    assert sorted(run.data.params["training.fold"] for run in children) == ["0", "1", "2"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    mean = sum(each["dice/val"] for each in ended) / FOLDS
    assert study.data.tags["mean dice/val"] == f"{mean:.4f}"


def test_a_store_without_folds_and_a_fold_beside_all_are_one_line_each(
    run_job: Job, phantom_store: Path, tmp_path: Path
) -> None:
    asked = ("train", "--data", phantom_store, "--output", tmp_path / "run", "--folds", "all")
    done = run_job(*asked, "--training.fold", "1")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(
        "--folds all: expected no --training.fold beside it, found both"
    )
    done = run_job(*asked, "--model", "unet-3d")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("found no folds; prepare with --folds")
    assert not (tmp_path / "run").exists()
