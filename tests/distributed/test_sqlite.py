"""SQLite stores: at the path that was given, and made by many processes at once."""

import shutil
import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from ossnet.distributed._sqlite import sqlite_path, sqlite_url
from ossnet.distributed.tracking.client import RunSpec, Tracker, TrackingConfig
from ossnet.distributed.tracking.store import open_client
from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.storage import TuningStudy
from ossnet.errors import UserError

FOLDER = Path("Task04%20Hippocampus", "a?uri=true", 'what\'s "#1"? 100 % & more; ü')
JOBS = """
import multiprocessing, sys
from pathlib import Path
import mlflow, optuna
from ossnet.distributed.tracking.client import RunSpec, Tracker, TrackingConfig
from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.storage import TuningStudy

def job(folder, number, barrier):
    barrier.wait()
    tracker = Tracker(TrackingConfig.at(folder, "array"))
    tracker.open_run(RunSpec(number, number))
    tracker.close(number, "FINISHED")
    tracker.flush()
    assert not tracker.take_failures()
    TuningStudy.open_or_create(folder / "study.db", "array", OptimizationConfig())

folder, jobs = Path(sys.argv[1]), int(sys.argv[2])
fork = multiprocessing.get_context("fork")  # with the libraries loaded, all begin at once
barrier = fork.Barrier(jobs)
running = [fork.Process(target=job, args=(folder, str(number), barrier)) for number in range(jobs)]
for each in running:
    each.start()
for each in running:
    each.join()
sys.exit(sum(each.exitcode != 0 for each in running))
"""


@given(st.text(min_size=1, max_size=40).filter(lambda text: "\0" not in text))
def test_a_url_leads_to_its_path(name: str) -> None:
    path = Path("/", "data", name, "mlflow.db")
    assert sqlite_path(sqlite_url(path)) == path
    assert make_url(sqlite_url(path)).database == str(path)


def test_everything_lies_in_the_folder_that_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    tracker = Tracker(TrackingConfig.at(folder, "e"))
    run = tracker.open_run(RunSpec("r", "r"))
    tracker.log_text("r", "text", "config.json")
    assert tracker.take_failures() == {}
    TuningStudy.open_or_create(folder / "study.db", "e", OptimizationConfig())
    assert TuningStudy.load(folder / "study.db").study_name == "e"
    for parent in (tmp_path, *(tmp_path / each for each in (FOLDER.parents[1], FOLDER.parent))):
        assert len(list(parent.iterdir())) == 1  # the next folder
    assert (folder / "mlartifacts" / str(run) / "artifacts" / "config.json").read_text() == "text"
    assert (folder / "mlflow.db").stat().st_size > 0
    assert (folder / "study.db").stat().st_size > 0


@pytest.mark.parametrize(
    ("prepared", "jobs"),
    [(False, 2), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((True, 4), (False, 16)))],
)
def test_jobs_of_an_array_start_at_once(
    prepared: bool, jobs: int, empty_mlflow_store: Path, tmp_path: Path
) -> None:
    if prepared:
        shutil.copy(empty_mlflow_store, tmp_path)
    command = [sys.executable, "-W", "ignore", "-c", JOBS, str(tmp_path), str(jobs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    tracking = TrackingConfig.at(tmp_path, "array")
    client = open_client(tracking.uri)
    experiment = tracking.find_experiment(client)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * jobs
    assert optuna.get_all_study_names(f"sqlite:///{tmp_path / 'study.db'}") == ["array"]


@pytest.mark.parametrize("text", ["no database", "x" * 5000])
def test_a_study_that_cannot_be_read_is_one_line(text: str, tmp_path: Path) -> None:
    database = tmp_path / "study.db"
    database.write_text(text)
    with pytest.raises(UserError, match=r"study\.db: expected a SQLite file") as error:
        TuningStudy.load(database)
    assert "\n" not in str(error.value)
    assert database.read_text() == text
