"""Everything on S3: two nodes that share no disk, and a driver that is killed and whose disk is lost."""

import shutil
import signal
from pathlib import Path

import pytest
from mlflow import MlflowClient
from node_cluster import SMALL, Driver, cluster, job_command, may_hide_folders
from s3_server import S3Server, s3_server

from ossnet.data import write_phantom

TRIALS, EPOCHS, STEPS = 4, 60, 150
SPACE = """
def space(trial):
    return {"optimizer.learning_rate": trial.suggest_float("rate", 1e-4, 0.02, log=True)}
"""


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
        nodes.add("a", "b", hidden=disk)
        store, runs = f"s3://{s3.bucket}/store", f"s3://{s3.bucket}/runs"
        made = nodes.result("prepare", "--source", scans, "--output", store, "--target", "foreground")
        assert made["output"] == store
        assert len(s3.names("store/cases/")) == made["cases"] == 12

        options = ["--data", store, *small, "--epochs", "4", "--workers", "2"]
        trained = nodes.result("train", *options, "--output", f"{runs}/train")
        assert trained["checkpoint"] == f"{runs}/train/checkpoint"
        assert {"config.json", "run.json", "checkpoint/model.safetensors"} <= s3.names("runs/train/")

        options = ["--data", store, "--space", "mine.py", "--trials", TRIALS, "--output", f"{runs}/study"]
        options += [*small, "--training.epochs", EPOCHS, "--early-stopping.algorithm", "none"]
        _kill_in_the_middle(nodes.start("tune", *options), s3)
        shutil.rmtree(disk / "ossnet")
        done = nodes.python(*job_command("tune", *options, "--resume"))
        assert done.returncode == 0, done.stderr[-3000:]
        assert "study.db cannot be read (it is missing): its copy of " in done.stderr
        check_exact(tmp_path)
        left = s3.names("runs/study/")
        assert {"study-copy.db", "checkpoint/model.safetensors", "report/report.html"} <= left
        assert not [key for key in left if ".ossnet-lock" in key or key.startswith("study.db")]

        shutil.rmtree(disk / "ossnet")
        options = ["--checkpoint", f"{runs}/study", "--device", "cpu"]
        scored = nodes.result("evaluate", *options, "--data", store, "--output", f"{runs}/evaluation")
        assert 0 < scored["dice"]["mean"] <= 1
        assert "evaluation.html" in s3.names("runs/evaluation/")
        options += ["--input", scans / "imagesTr", "--output", f"{runs}/predictions"]
        assert nodes.result("predict", *options)["failed"] == 0
        assert sum(key.endswith("_seg.nii.gz") for key in s3.names("runs/predictions/")) == 12


def _kill_in_the_middle(driver: Driver, s3: S3Server) -> None:
    """Kill a study's driver once one trial has ended and another one trains."""
    driver.until(lambda: driver.says("  finished  |"))
    driver.process.send_signal(signal.SIGKILL)
    driver.process.wait()
    assert any(key.startswith("trials/") for key in s3.names("runs/study/"))
