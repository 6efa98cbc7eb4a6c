"""Whatever breaks, a study has all of its trials, runs and steps in the end, none twice, and no job hangs."""

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from random import Random

import pytest
from chaos_record import SEED
from chaos_study import Account, SmallStudy
from fault import Fault
from faults import FAULTS, IN_EVERY_RUN


@pytest.fixture(scope="session")
def new_study(
    phantom_store: Path, tiny_training: list[str], tiny_network: list[str]
) -> Callable[[Path], SmallStudy]:
    return lambda folder: SmallStudy(folder, phantom_store, [*tiny_training, *tiny_network])


@pytest.fixture(scope="session")
def interrupted(
    new_study: Callable[[Path], SmallStudy], tmp_path_factory: pytest.TempPathFactory
) -> SmallStudy:
    """A study that SIGTERM has ended after a trial or two, with another one in its middle."""
    study = new_study(tmp_path_factory.mktemp("interrupted"))
    study.start()
    study.until_in_the_middle()
    os.kill(study.running.process.pid, signal.SIGTERM)
    code, lines = study.running.end(limit_s=60)
    assert code == 143, lines
    assert not [line for line in lines if "Traceback" in line or line.startswith("warning")], lines
    assert {trial.state.name for trial in study.trials()} == {"COMPLETE", "RUNNING"}
    assert {run.info.status for run in study.runs()[1]} == {"FINISHED", "KILLED"}
    assert not (study.path / "checkpoint").exists()  # nothing is chosen yet
    saved = {file.parents[1] for file in study.path.glob("trials/*/checkpoint_*/state.pt")}
    assert len(saved) > study.ended(), saved  # between two reports, or by the report that came first
    return study


def copy_files(study: SmallStudy, folder: Path) -> None:
    """Give a study what another one left, its runs' files included."""
    shutil.copytree(study.folder, folder, dirs_exist_ok=True)
    with closing(sqlite3.connect(folder / "mlflow.db")) as store, store:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            store.execute(
                f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(study.folder), str(folder))
            )


def case(fault: Fault) -> object:
    marks = [pytest.mark.chaos(fault.name)]
    if fault is not IN_EVERY_RUN:
        marks.append(pytest.mark.slow)
    return pytest.param(fault, id=fault.name, marks=marks)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("fault", [case(fault) for fault in FAULTS])
def test_nothing_is_lost_doubled_or_hung(
    fault: Fault,
    new_study: Callable[[Path], SmallStudy],
    tmp_path: Path,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    study, account = new_study(tmp_path), Account()
    if not fault.hurts_a_job:
        copy_files(request.getfixturevalue("interrupted"), tmp_path)
    try:
        fault.hurt(study, Random(f"{request.config.getoption(SEED)}-{fault.name}"), account)
    finally:
        for job in study.jobs:
            job.kill()
        for what, items in asdict(account).items():
            record_property(what, len(items))
    assert not account, account


@pytest.mark.slow
@pytest.mark.chaos("two drivers that resume at once")
def test_of_two_that_resume_at_once_one_is_refused(
    new_study: Callable[[Path], SmallStudy], interrupted: SmallStudy, tmp_path: Path
) -> None:
    """In one line; and `--resume auto` goes on where there is something."""
    study, account = new_study(tmp_path), Account()
    copy_files(interrupted, tmp_path)
    first, second = study.begin("--resume", "auto"), study.begin("--resume")
    ends = sorted((first.end(), second.end()))
    assert [code for code, _ in ends] == [0, 2], ends
    assert "that is still running (process" in ends[1][1][-1]
    account.add_results(study)
    assert not account, account
