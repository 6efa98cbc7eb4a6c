"""A study whose file, checkpoints or runs are damaged is made good from what there is."""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from torch import nn

from ossnet.distributed.tracking.client import RunSpec, Tracker, TrackingConfig
from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.recovery.checkpoint import restore_checkpoint
from ossnet.distributed.tuning.recovery.database import COPY, holds_study, keep_copy, recover_database
from ossnet.distributed.tuning.recovery.runs import trainings
from ossnet.distributed.tuning.storage import (
    END,
    SEEDS,
    TuningStudy,
    complete_checkpoints,
    latest_checkpoint,
    storage_errors,
)
from ossnet.distributed.tuning.trial import TrialEnd
from ossnet.errors import UserError
from ossnet.metric_names import ERROR
from ossnet.training.checkpoint import load_state, save_checkpoint


def open_study(output: Path) -> TuningStudy:
    return TuningStudy.open_or_create(output / "study.db", "mine", OptimizationConfig())


def ask(study: TuningStudy, **ends: object) -> optuna.Trial:
    trial = study.ask()
    trial.suggest_float("rate", 0.0, 1.0)
    for name, value in ends.items():
        trial.set_user_attr(name, value)
    return trial


@pytest.fixture
def study(tmp_path: Path) -> TuningStudy:
    """Twenty trials that are told, and one that runs; and the copy."""
    study = open_study(tmp_path)
    for number in range(20):
        study.tell(ask(study, **{END: TrialEnd.FINISHED}), number / 20)
    ask(study)
    assert study.parent_run_key
    keep_copy(tmp_path)
    return study


def empty(file: Path) -> None:
    os.truncate(file, 0)


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2 + 1000)


def zero_pages(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[8192:40960] = bytes(40960 - 8192)
    file.write_bytes(content)


def make_anew(file: Path) -> None:
    file.unlink()
    sqlite3.connect(file).close()
    open_study(file.parent)
    with sqlite3.connect(file) as database:
        database.execute("DELETE FROM studies")


def test_of_a_study_that_another_machine_went_on_with_the_copy_counts(
    study: TuningStudy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = tmp_path / "cache" / "study"
    here.mkdir(parents=True)
    (here.parent / "url.json").write_text('{"url": "s3://bucket/study", "folder": "study"}')
    for name in ("study.db", COPY):
        shutil.copy(tmp_path / name, here)
    recover_database(here, resume=True)
    assert not caplog.messages
    study.tell(20, 0.5)
    keep_copy(tmp_path)
    shutil.copy(tmp_path / COPY, here)
    recover_database(here, resume=True)
    (line,) = caplog.messages
    assert "another machine went on with the study" in line
    assert len(open_study(here).get_trials(states=[TrialState.COMPLETE])) == 21
    assert len(list(here.glob("study.db.damaged-*"))) == 1


DAMAGES: list[Callable[[Path], None]] = [empty, truncate, zero_pages, make_anew, Path.unlink]


@pytest.mark.chaos("study.db damaged or gone")
@pytest.mark.parametrize("damage", DAMAGES)
def test_the_copy_takes_the_place_of_a_damaged_file(
    damage: Callable[[Path], None], study: TuningStudy, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = study.parent_run_key
    before = [(trial.number, trial.state, trial.params, trial.values) for trial in study.trials]
    database = tmp_path / "study.db"
    (tmp_path / "study.db-journal").write_bytes(b"of before")
    damage(database)
    left = database.read_bytes() if database.exists() else None
    recover_database(tmp_path, resume=True)
    (line,) = caplog.messages
    assert "study.db cannot be read" in line
    assert "its copy of 2" in line
    again = open_study(tmp_path)
    assert [(trial.number, trial.state, trial.params, trial.values) for trial in again.trials] == before
    assert again.parent_run_key == key
    kept = [path for path in tmp_path.glob("study.db.damaged-*") if not path.name.endswith("-journal")]
    assert [path.read_bytes() for path in kept] == ([] if left is None else [left])
    assert not (tmp_path / "study.db-journal").exists()  # SQLite would apply it to the copy


@pytest.mark.parametrize("damage", DAMAGES)
def test_without_a_copy_nothing_is_begun_and_a_line_says_why(
    damage: Callable[[Path], None], study: TuningStudy, tmp_path: Path
) -> None:
    (tmp_path / COPY).unlink()
    (tmp_path / "trials").mkdir()
    damage(tmp_path / "study.db")
    before = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match=r"found none that can be read \(.+\), and no copy of it"):
        recover_database(tmp_path, resume=True)
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == before


def test_a_new_study_is_never_begun_among_the_trials_of_another(study: TuningStudy, tmp_path: Path) -> None:
    (tmp_path / "study.db").unlink()
    with pytest.raises(UserError, match=r"whose study\.db is missing; continue it by --resume"):
        recover_database(tmp_path, resume=False)
    assert holds_study(tmp_path)
    assert not holds_study(tmp_path / "elsewhere")


def test_a_sound_file_stays_and_one_that_is_locked_too(
    study: TuningStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("ossnet.distributed._sqlite._BUSY_S", 0.1)
    before = (tmp_path / "study.db").read_bytes()
    recover_database(tmp_path, resume=True)
    lock = sqlite3.connect(tmp_path / "study.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    recover_database(tmp_path, resume=True)
    lock.close()
    assert (tmp_path / "study.db").read_bytes() == before
    assert not caplog.messages


def test_a_file_that_another_program_keeps_is_one_line(
    study: TuningStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ossnet.distributed.tuning.storage.LOCKED_S", 0.1)
    database = tmp_path / "study.db"
    again, began = open_study(tmp_path), time.monotonic()
    lock = sqlite3.connect(database, isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    line = r"found .*database is locked; see which other program keeps it, then continue by --resume"
    with pytest.raises(UserError, match=line) as error, storage_errors(database):
        again.set_user_attr("any", 1)
    lock.close()
    assert "\n" not in str(error.value)
    assert time.monotonic() - began < 4  # SQLite's own patience is five seconds


def save(folder: Path, *, step: int, run: str, dice: float | None = 0.5, age_s: float = 0.0) -> Path:
    network = nn.Linear(2, 2)
    nn.init.constant_(network.weight, step)
    state = {"progress": {"step": step}, "dice": dice, "run": run}
    save_checkpoint(folder, network=network, documents={"config.json": "{}"}, state=state)
    at = folder.stat().st_mtime - age_s
    os.utime(folder, (at, at))
    return folder


@pytest.fixture
def trial_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "trials" / "003.0-abc"
    save(folder / "checkpoint_000000", step=2, run="run-3-0", age_s=60)
    save(folder / "checkpoint_000001", step=4, run="run-3-0")
    return folder


def restore(output: Path, fetch: Callable[[str, Path], bool] = lambda run, folder: False) -> Path | None:
    return restore_checkpoint(output, 3, 0, "run-3-0", TrialEnd.FINISHED, dice=0.25, fetch=fetch)


def test_checkpoints_of_another_study_are_not_taken_up(
    trial_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert latest_checkpoint(tmp_path, 3, 0, "run-3-0") == trial_folder / "checkpoint_000001"
    assert list(complete_checkpoints(tmp_path, 3, 0, "other-3-0")) == []
    assert len([line for line in caplog.messages if "is of another run (run-3-0)" in line]) == 2
    save(tmp_path / "trials" / "003.0-def" / "checkpoint_000000", step=1, run="other-3-0", age_s=-60)
    assert latest_checkpoint(tmp_path, 3, 0, "run-3-0") == trial_folder / "checkpoint_000001"


def cut(folder: Path, name: str) -> None:
    os.truncate(folder / name, (folder / name).stat().st_size // 2)


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt", "version.json"])
def test_a_cut_checkpoint_falls_back_to_the_one_before(
    name: str, trial_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cut(trial_folder / "checkpoint_000001", name)
    assert restore(tmp_path) == trial_folder / "checkpoint_000000"
    assert "MLflow has no copy: the one before, checkpoint_000000, takes its place" in caplog.text


@pytest.mark.chaos("a cut checkpoint, of which MLflow has a copy")
@pytest.mark.parametrize(("name", "dice"), [("model.safetensors", 0.5), ("state.pt", 0.25)])
def test_a_cut_checkpoint_is_replaced_by_the_copy_in_mlflow(
    name: str,
    dice: float,
    trial_folder: Path,
    tmp_path: Path,
    mlflow_store: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    last, whole = trial_folder / "checkpoint_000001", tmp_path / "whole"
    shutil.copytree(last, whole)
    tracker = Tracker(TrackingConfig.at(tmp_path, "mine"))
    tracker.open_run(RunSpec("run-3-0", "3"))
    tracker.log_checkpoint("run-3-0", last)
    tracker.flush()
    cut(last, name)
    found = restore(tmp_path, tracker.fetch_checkpoint)
    assert found == trial_folder / "checkpoint_restored"
    assert (found / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert load_state(found)["dice"] == dice
    assert latest_checkpoint(tmp_path, 3, 0, "run-3-0") == found
    assert "checkpoint_000001 is damaged" in caplog.text
    assert "MLflow's copy takes its place" in caplog.text


def test_without_any_other_a_line_says_so(
    trial_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(trial_folder / "checkpoint_000000")
    cut(trial_folder / "checkpoint_000001", "model.safetensors")
    assert restore(tmp_path) is None
    assert "MLflow has no copy: and there is no other" in caplog.text
    shutil.rmtree(trial_folder)
    assert restore(tmp_path) is None
    assert "trial 003 left no checkpoint" in caplog.text


def test_what_the_study_knows_of_each_training(tmp_path: Path) -> None:
    """Two seeds: of the fifth trial only one was trained."""
    study = open_study(tmp_path)
    study.tell(ask(study, **{END: TrialEnd.FINISHED, SEEDS: {"0": {}, "1": {}}}), 0.5)
    study.tell(ask(study, **{END: TrialEnd.STOPPED_EARLY}), state=TrialState.PRUNED)
    study.tell(ask(study, **{END: TrialEnd.FAILED, ERROR: "the disk"}), state=TrialState.FAIL)
    ask(study)
    study.tell(ask(study, **{END: TrialEnd.FINISHED, SEEDS: {"0": {}}}), 0.5)
    found = trainings(study, seeds=2)
    assert [(each.number, each.seed) for each in found] == [(n, s) for n in range(5) for s in range(2)]
    assert [each.outcome.status for each in found[::2]] == [
        "FINISHED", "KILLED", "FAILED", "KILLED", "FINISHED",
    ]  # fmt: skip
    assert found[1].outcome.status == "FINISHED"
    assert found[4].outcome.tags() == {"error": "the disk"}
    assert found[6].outcome.tags() == {"stop_reason": "interrupted"}
    assert found[9].outcome.end is TrialEnd.INTERRUPTED
    assert found[0].run == study.run_id(0, 0)


@pytest.mark.parametrize("spoil", [empty, make_anew], ids=["no table", "no study"])
def test_a_study_that_was_ended_before_it_began_is_begun(
    spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    """As by SIGTERM while its file was made: a batch system's `--resume auto` has to go on."""
    open_study(tmp_path)
    spoil(tmp_path / "study.db")
    recover_database(tmp_path, resume=True)
    assert len([*tmp_path.glob("study.db.damaged-*")]) == 1
    assert open_study(tmp_path).trials == []
