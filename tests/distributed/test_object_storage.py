"""Everything on S3: two nodes that share no disk, and a driver that is killed and whose disk is lost."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from node_cluster import ROOT, SMALL, Nodes, cluster, may_hide_folders
from s3_server import S3Server, s3_server

from ossnet.data import write_phantom

TRIALS, EPOCHS, STEPS = 4, 60, 150
SPACE = """
def space(trial):
    return {"optimizer.learning_rate": trial.suggest_float("rate", 1e-4, 0.02, log=True)}
"""


def command(name: str, *options: object) -> list[str]:
    return [str(ROOT / "jobs" / f"{name}.py"), *map(str, options), "--json"]


def run(nodes: Nodes, name: str, *options: object) -> dict[str, Any]:
    """The result of a job on the head."""
    done = nodes.python(*command(name, *options))
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def keys(s3: S3Server, prefix: str) -> set[str]:
    pages = s3.client().get_paginator("list_objects_v2").paginate(Bucket=s3.bucket, Prefix=prefix)
    found = {each["Key"] for page in pages for each in page.get("Contents", [])}
    return {key.removeprefix(prefix) for key in found if not key.endswith("/")}


def check_exact(folder: Path) -> None:
    """Every trial's run has ended well, and has every step once."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("mine")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    assert {run.info.status for run in found} == {"FINISHED"}
    trials = [run for run in found if "trial" in run.data.tags]
    assert sorted(run.data.tags["trial"] for run in trials) == ["0", "1", "2", "3"]
    for run in trials:
        steps = [each.step for each in client.get_metric_history(run.info.run_id, "loss/train")]
        assert steps == list(range(1, STEPS + 1))
        assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"checkpoint"}


@pytest.mark.slow
@pytest.mark.timeout(2400)
@pytest.mark.skipif(not may_hide_folders(), reason="needs the right to mount")
def test_a_project_needs_no_disk_but_the_bucket(tmp_path: Path) -> None:
    scans, disk = tmp_path / "scans", tmp_path / "disk-of-the-head"
    write_phantom(scans, cases=12, shape=(32, 32, 24))
    disk.mkdir()
    (tmp_path / "mine.py").write_text(SPACE)
    small = [word for option, values in SMALL.items() for word in (option, *values.split())]
    with s3_server(tmp_path) as s3, cluster(tmp_path, s3.environment) as nodes:
        nodes.environment["XDG_CACHE_HOME"] = str(disk)
        for name in ("a", "b"):
            (tmp_path / name / "cache").mkdir(parents=True)
            nodes.environment["XDG_CACHE_HOME"] = str(tmp_path / name)
            nodes.add(name, hidden=disk)
        nodes.environment["XDG_CACHE_HOME"] = str(disk)
        store, runs = f"s3://{s3.bucket}/store", f"s3://{s3.bucket}/runs"
        made = run(nodes, "prepare", "--source", scans, "--output", store, "--target", "foreground")
        assert made["output"] == store
        assert len(keys(s3, "store/cases/")) == made["cases"] == 12

        options = ["--data", store, *small, "--epochs", "4", "--workers", "2"]
        trained = run(nodes, "train", *options, "--output", f"{runs}/train")
        assert trained["checkpoint"] == f"{runs}/train/checkpoint"
        assert {"config.json", "run.json", "checkpoint/model.safetensors"} <= keys(s3, "runs/train/")

        options = ["--data", store, "--space", "mine.py", "--trials", TRIALS, "--output", f"{runs}/study"]
        options += [*small, "--training.epochs", EPOCHS, "--early-stopping.algorithm", "none"]
        _kill_in_the_middle(nodes, command("tune", *options), s3)
        shutil.rmtree(disk / "ossnet")
        done = nodes.python(*command("tune", *options, "--resume"))
        assert done.returncode == 0, done.stderr[-3000:]
        assert "study.db cannot be read (it is missing): its copy of " in done.stderr
        check_exact(tmp_path)
        left = keys(s3, "runs/study/")
        assert {"study-copy.db", "checkpoint/model.safetensors", "report/report.html"} <= left
        assert not [key for key in left if ".ossnet-lock" in key or key.startswith("study.db")]

        shutil.rmtree(disk / "ossnet")
        options = ["--checkpoint", f"{runs}/study", "--device", "cpu"]
        scored = run(nodes, "evaluate", *options, "--data", store, "--output", f"{runs}/evaluation")
        assert 0 < scored["dice"]["mean"] <= 1
        assert "evaluation.html" in keys(s3, "runs/evaluation/")
        options += ["--input", scans / "imagesTr", "--output", f"{runs}/predictions"]
        assert run(nodes, "predict", *options)["failed"] == 0
        assert sum(key.endswith("_seg.nii.gz") for key in keys(s3, "runs/predictions/")) == 12


def _kill_in_the_middle(nodes: Nodes, job: list[str], s3: S3Server) -> None:
    """Kill a study's driver once one trial has ended and another one trains."""
    with (nodes.folder / "killed.log").open("w") as log:
        driver = subprocess.Popen(
            [sys.executable, *job],
            env=nodes.environment | {"RAY_ADDRESS": nodes.address},
            cwd=nodes.folder,
            stdout=log,
            stderr=log,
        )
    ended = 0
    while not ended:
        assert driver.poll() is None, (nodes.folder / "killed.log").read_text()[-3000:]
        time.sleep(1)
        ended = (nodes.folder / "killed.log").read_text().count("  finished  |")
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    assert any(key.startswith("trials/") for key in keys(s3, "runs/study/"))
