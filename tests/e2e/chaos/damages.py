"""Faults of files: what an interrupted study left is damaged, or the store that one reads."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from chaos_study import NAME, SmallStudy
from fault import Fault

_PAGE = 4096


def _cut_study(study: SmallStudy, chance: Random) -> None:
    os.truncate(study.database, int(study.database.stat().st_size * chance.uniform(0.3, 0.9)))


def _empty_study(study: SmallStudy, chance: Random) -> None:
    os.truncate(study.database, 0)


def _zero_pages(study: SmallStudy, chance: Random) -> None:
    content = bytearray(study.database.read_bytes())
    first = chance.randint(1, 3) * _PAGE
    content[first : first + 8 * _PAGE] = bytes(8 * _PAGE)
    study.database.write_bytes(content)


def _lose_study(study: SmallStudy, chance: Random) -> None:
    for name in ("study.db", "study-copy.db"):
        (study.path / name).unlink()


def _cut_checkpoints(study: SmallStudy, chance: Random) -> None:
    """Those of trials that have ended."""
    for file in study.path.glob("trials/*/checkpoint_*/model.safetensors"):
        if file.parent.name != "checkpoint_interim":
            os.truncate(file, int(file.stat().st_size * chance.uniform(0.1, 0.9)))


def _cut_interim(study: SmallStudy, chance: Random) -> None:
    """Those with which trials go on."""
    for file in study.path.glob("trials/*/checkpoint_interim/*"):
        os.truncate(file, int(file.stat().st_size * chance.uniform(0.1, 0.9)))


def _open_runs(study: SmallStudy, chance: Random) -> None:
    """As a driver leaves them that is killed between Optuna and MLflow."""
    client, runs = study.runs()
    for run in runs:
        client.update_run(run.info.run_id, status="RUNNING")


def _lose_stored_checkpoints(study: SmallStudy, chance: Random) -> None:
    """As a driver leaves them that ends while MLflow stores no files."""
    stored = [
        Path(run.info.artifact_uri.removeprefix("file://")) / "checkpoint"
        for run in study.runs()[1]
        if run.info.status == "FINISHED"
    ]
    assert stored
    for folder in stored:
        shutil.rmtree(folder)


def _change_space(study: SmallStudy, chance: Random) -> None:
    """Try to go on with another space, which is refused."""
    space = study.folder / f"{NAME}.py"
    before = space.read_text()
    space.write_text(before.replace("0.02", "0.03"))
    code, lines = study.begin("--resume").end()
    assert code == 2, lines
    assert lines[-1].startswith("error: resumed study, space: expected "), lines
    space.write_text(before)


def _second_driver(study: SmallStudy, chance: Random) -> None:
    code, lines = study.begin().end()
    assert code == 2, lines
    assert f"an ossnet tune that is still running (process {study.running.process.pid} on " in lines[-1]


@contextmanager
def _own_store(study: SmallStudy) -> Iterator[None]:
    """A copy of the store, which can be damaged, and another one, by which it is mended."""
    study.store = shutil.copytree(study.store, study.folder / "store")
    shutil.copytree(study.store, study.folder / "sound store")
    yield


def _training_file(study: SmallStudy, chance: Random) -> Path:
    manifest = json.loads((study.store / "manifest.json").read_text())
    case = chance.choice(manifest["splits"]["training"])
    return study.store / manifest["cases"][case]["file"]


def _flip_bytes(study: SmallStudy, chance: Random) -> None:
    file = _training_file(study, chance)
    content = bytearray(file.read_bytes())
    middle = len(content) // 3
    for position in range(middle, middle + 4000, 7):
        content[position] ^= 0xFF
    file.write_bytes(content)


def _cut_case(study: SmallStudy, chance: Random) -> None:
    file = _training_file(study, chance)
    os.truncate(file, file.stat().st_size // 2)


def _cut_cases(study: SmallStudy, chance: Random) -> None:
    for file in (study.store / "cases").iterdir():
        os.truncate(file, _PAGE)


def _mend_store(study: SmallStudy, chance: Random) -> None:
    shutil.copytree(study.folder / "sound store", study.store, dirs_exist_ok=True)


COPY_TAKEN = "its copy of"
KNOWN = "brought to what the study knows"
STUDY_CUT = Fault("study.db cut", between=_cut_study, says=COPY_TAKEN)
STUDY_EMPTIED = Fault("study.db emptied", between=_empty_study, says=COPY_TAKEN)
CHECKPOINTS_CUT = Fault("checkpoints of ended trials cut", between=_cut_checkpoints)
DAMAGES = (
    Fault("a second driver", during=_second_driver),
    Fault("bytes of a case flipped", _own_store, _flip_bytes, between=_mend_store, exits=2, says=", node "),
    Fault("a case cut", _own_store, _cut_case, between=_mend_store, exits=2, says=", node "),
    Fault("all cases cut while they are mapped", _own_store, during=_cut_cases, between=_mend_store, exits=2),
    Fault("runs of ended trials left RUNNING", between=_open_runs, says=KNOWN),
    Fault("checkpoints of ended runs not in MLflow", between=_lose_stored_checkpoints, says=KNOWN),
    STUDY_CUT,
    STUDY_EMPTIED,
    Fault("pages of study.db zeroed", between=_zero_pages, says="study.db cannot be read ("),
    Fault("study.db and its copy lost", between=_lose_study, says="the study is made anew from MLflow"),
    CHECKPOINTS_CUT,
    Fault("checkpoints of interrupted trials cut", between=_cut_interim),
    Fault("going on with another space", between=_change_space),
)
