"""MLflow's file and its copy in a bucket, as moto serves it: all that two machines have in common."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from s3_server import S3Server

from ossnet.distributed._sqlite import sqlite_url
from ossnet.distributed.tracking.backup.database import Backup
from ossnet.distributed.tracking.client import MetricPoint, RunSpec, Tracker, TrackingConfig
from ossnet.distributed.tracking.store import open_client
from ossnet.errors import UserError
from ossnet.output.remote.folder import RemoteFolder


@pytest.fixture
def url(s3: S3Server, request: pytest.FixtureRequest) -> str:
    return f"s3://{s3.bucket}/{request.node.name}"


class Machine:
    """A machine with a disk of its own."""

    def __init__(self, disk: Path, url: str, patch: pytest.MonkeyPatch) -> None:
        patch.setenv("XDG_CACHE_HOME", str(disk / "cache"))
        disk.mkdir()
        self.file = disk / "mlflow.db"
        self.backup = Backup(self.file, RemoteFolder.at(url))

    def log(self, steps: int) -> None:
        """Have a run with so many steps."""
        tracker = Tracker(TrackingConfig.at(self.file.parent, "mine"))
        tracker.open_run(RunSpec("a", "a"))
        tracker.log("a", [MetricPoint("loss/train", 0.5, step, 1000 + step) for step in range(1, steps + 1)])
        tracker.flush()
        assert tracker.take_failures() == {}

    def steps(self) -> list[int]:
        """Those of the only run."""
        client = open_client(sqlite_url(self.file))
        experiment = client.get_experiment_by_name("mine")
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id])
        return [each.step for each in client.get_metric_history(run.info.run_id, "loss/train")]


@pytest.fixture
def head(empty_mlflow_store: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One with a run of three steps that is backed up."""
    head = Machine(tmp_path / "head", url, monkeypatch)
    shutil.copy(empty_mlflow_store, head.file)
    head.log(3)
    assert head.backup.update()
    return head


def test_a_new_machine_goes_on_with_the_runs(
    head: Machine, url: str, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not head.backup.update()  # it has not changed
    head.log(5)
    with closing(sqlite3.connect(head.file)) as busy:  # a writer in the middle of something
        busy.execute("BEGIN IMMEDIATE")
        assert head.backup.update()
    anew = Machine(tmp_path / "anew", url, monkeypatch)
    anew.file.with_name("mlflow.db-journal").write_text("of a file that is lost")
    assert anew.backup.restore()
    assert not anew.backup.restore()
    assert anew.steps() == [1, 2, 3, 4, 5]
    anew.log(7)
    time.sleep(1.1)  # S3's times have seconds
    assert anew.backup.update()
    head.log(6)  # as the first one was only cut off: it does not undo what the new one wrote
    with pytest.raises(UserError, match="lacks 1 run, or the last steps; move it away and restore that one"):
        head.backup.update()
    with pytest.raises(UserError, match="lacks 1 run"):
        head.backup.restore()
    assert Machine(tmp_path / "third", url, monkeypatch).backup.restore()
    assert {key.rpartition("/")[2] for key in s3.names(url.removeprefix(f"s3://{s3.bucket}/"))} == {
        "mlflow.db"
    }


def test_an_empty_file_never_takes_the_place_of_runs(
    head: Machine, empty_mlflow_store: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head.file.unlink()
    assert not head.backup.update()
    for content in (empty_mlflow_store.read_bytes(), b"", b"no database" * 100):
        head.file.write_bytes(content)
        with pytest.raises((UserError, sqlite3.DatabaseError), match=r"goes on from s3://|not a database"):
            head.backup.update()
        with pytest.raises(UserError, match="expected a file that goes on from s3://"):
            head.backup.restore()
    anew = Machine(tmp_path / "anew", url, monkeypatch)
    assert anew.backup.restore()
    assert anew.steps() == [1, 2, 3]


def test_a_damaged_copy_is_a_line_and_no_file(
    url: str, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = url.removeprefix(f"s3://{s3.bucket}/")
    s3.client().put_object(Bucket=s3.bucket, Key=f"{folder}/mlflow.db", Body=b"no database")
    machine = Machine(tmp_path / "anew", url, monkeypatch)
    with pytest.raises(UserError, match=r"mlflow\.db: expected a copy of MLflow's file, found file is not a"):
        machine.backup.restore()
    assert not machine.file.exists()


def run(what: str, file: Path, url: str, cache: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "ossnet.distributed.tracking.backup", what, str(file), url]
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_the_commands_of_a_head(
    head: Machine, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cluster/mlflow.sh runs: a file that was restored is backed up until the head ends."""
    anew = Machine(tmp_path / "anew", url, monkeypatch)
    cache = tmp_path / "anew" / "cache"
    restoring = run("restore", anew.file, url, cache)
    assert restoring.communicate(timeout=120)[1] == f"{anew.file} is restored from {url}/mlflow.db\n"
    assert restoring.returncode == 0
    keeping = run("keep", anew.file, url, cache)
    lock = anew.file.with_name(".mlflow.db-backup.lock")
    until = time.monotonic() + 60
    while not lock.exists():
        assert keeping.poll() is None
        assert time.monotonic() < until
        time.sleep(0.1)
    second = run("keep", anew.file, url, cache)
    assert "expected no backup, found one by another process" in second.communicate(timeout=60)[1]
    assert second.returncode == 2
    anew.log(4)
    keeping.send_signal(signal.SIGTERM)
    assert keeping.communicate(timeout=60)[1] == ""
    assert keeping.returncode == 0
    third = Machine(tmp_path / "third", url, monkeypatch)
    assert third.backup.restore()
    assert third.steps() == [1, 2, 3, 4]


@pytest.mark.slow
def test_storage_that_refuses_is_one_line_without_its_keys(
    head: Machine, s3: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    refused = run("restore", head.file, "s3://no-such-bucket/mlflow", tmp_path / "cache")
    said = refused.communicate(timeout=120)[1]
    assert refused.returncode == 2
    assert said.startswith("error: s3://no-such-bucket/mlflow/mlflow.db: expected object storage that can be")
    assert said.count("\n") == 1
    assert "a-secret" not in said
    refused = run("restore", head.file, "s3://key:a-secret@bucket/mlflow", tmp_path / "cache")
    said = refused.communicate(timeout=120)[1]
    assert refused.returncode == 2
    assert "a-secret" not in said
