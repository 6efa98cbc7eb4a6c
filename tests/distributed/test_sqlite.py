"""SQLite stores: at the path that was given, and made by many processes at once."""

import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url

from ossnet.distributed._sqlite import sqlite_path, sqlite_url
from ossnet.distributed.tracking.client import RunSpec, Tracker, TrackingConfig
from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.storage import TuningStudy
from ossnet.errors import UserError

FOLDERS = ("Task04%20Hippocampus", "what? a study", "#1 & more; ü", "100%", "a?uri=true", 'it\'s "so"')
JOB = """
import sys, time
from pathlib import Path
from ossnet.distributed.tracking.client import RunSpec, Tracker, TrackingConfig
from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.storage import TuningStudy
import mlflow
folder, number, start = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
time.sleep(max(0, start - time.time()))
tracker = Tracker(TrackingConfig.at(folder, "array"))
tracker.open_run(RunSpec(number, number)); tracker.close(number, "FINISHED"); tracker.flush()
assert not tracker.take_failures()
TuningStudy.open_or_create(folder / "study.db", "array", OptimizationConfig())
"""


@given(st.text(min_size=1, max_size=40).filter(lambda text: "\0" not in text))
def test_a_url_leads_to_its_path(name: str) -> None:
    path = Path("/", "data", name, "mlflow.db")
    assert sqlite_path(sqlite_url(path)) == path
    assert make_url(sqlite_url(path)).database == str(path)


@pytest.mark.parametrize("name", FOLDERS)
def test_everything_lies_in_the_folder_that_was_given(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / name
    folder.mkdir()
    tracker = Tracker(TrackingConfig.at(folder, "e"))
    run = tracker.open_run(RunSpec("r", "r"))
    tracker.log_text("r", "text", "config.json")
    assert tracker.take_failures() == {}
    TuningStudy.open_or_create(folder / "study.db", "e", OptimizationConfig())
    assert TuningStudy.load(folder / "study.db").study_name == "e"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (folder / "mlartifacts" / str(run) / "artifacts" / "config.json").read_text() == "text"
    assert (folder / "mlflow.db").stat().st_size > 0
    assert (folder / "study.db").stat().st_size > 0


@pytest.mark.parametrize("prepared", [False, True])
def test_jobs_of_an_array_start_at_once(prepared: bool, tmp_path: Path) -> None:
    if prepared:
        Tracker(TrackingConfig.at(tmp_path, "another"))
    jobs = 4 if prepared else 16
    start = time.time() + 2 * jobs
    commands = [
        [sys.executable, "-W", "ignore", "-c", JOB, str(tmp_path), str(n), str(start)] for n in range(jobs)
    ]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for command in commands
    ]
    for process in running:
        text, _ = process.communicate(timeout=300)
        assert (process.returncode, text) == (0, "")
    assert optuna.get_all_study_names(f"sqlite:///{tmp_path / 'study.db'}") == ["array"]


@pytest.mark.parametrize("text", ["no database", "x" * 5000])
def test_a_study_that_cannot_be_read_is_one_line(text: str, tmp_path: Path) -> None:
    database = tmp_path / "study.db"
    database.write_text(text)
    with pytest.raises(UserError, match=r"study\.db: expected a SQLite file") as error:
        TuningStudy.load(database)
    assert "\n" not in str(error.value)
    assert database.read_text() == text
