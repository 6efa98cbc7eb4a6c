"""A copy of a study's file beside it, from which `--resume` goes on where that is damaged."""

import logging
import sqlite3
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from ossnet.distributed._sqlite import copy_database, find_damage, has_no_rows, read_rows
from ossnet.distributed.tuning.storage import DATABASE, TRIALS_FOLDER, WORKERS_FOLDER
from ossnet.errors import UserError
from ossnet.output.atomic_write import atomic_path
from ossnet.output.remote.copies import keep
from ossnet.output.remote.folder import RemoteFolder

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

logger = logging.getLogger(__name__)

COPY = "study-copy.db"
"""The copy in a study's folder."""
_TABLES = ("studies", "trials", "study_user_attributes")
_PROGRESS = (
    "SELECT number, state, datetime_complete FROM trials WHERE datetime_complete IS NOT NULL",
    "SELECT trial_id, step, intermediate_value FROM trial_intermediate_values",
)
_BESIDE = ("", "-journal", "-wal", "-shm")  # SQLite's own files of one database
_EVERY_S = 10.0  # between two copies while trials only report


def keep_copy(output: Path) -> None:
    """Write a consistent copy of the study's file; where that is not possible, a line says why.

    Args:
        output: the study's folder.
    """
    try:
        copy_database(output / DATABASE, output / COPY)
        keep(output / COPY)
    except (sqlite3.Error, UserError) as error:
        logger.warning(f"warning: no copy of {output / DATABASE} was written: {error}")


def recover_database(output: Path, *, resume: bool) -> None:
    """Have the copy take the place of a study's file that is lost or damaged, which is kept; a line says so.

    Args:
        output: the study's folder.
        resume: whether a study is to be resumed, or a new one made.

    Raises:
        UserError: there is no copy; or a new study is to be made where there are trials of another.
    """
    database, copy = output / DATABASE, output / COPY
    if not resume:
        if not database.exists() and holds_study(output):
            raise UserError(
                output,
                expected="a new folder",
                found=f"trials of a study whose {DATABASE} is missing",
                remedy="continue it by --resume, or give another --output",
            )
        return
    if not holds_study(output):
        return
    damage = find_damage(database, _TABLES) if database.exists() else "it is missing"
    if damage is None and RemoteFolder.holding(output) and copy.is_file() and not has_all_of(database, copy):
        damage = "another machine went on with the study"
    if damage is None:
        return
    if _never_began(output):
        kept = _move_aside(database)
        database.touch()
        logger.warning(f"warning: {database} holds no study yet ({damage}): one begins; kept as {kept}")
        return
    if not copy.is_file() or find_damage(copy, _TABLES) is not None:
        raise UserError(
            database,
            expected="a study to resume",
            found=f"none that can be read ({damage}), and no copy of it ({COPY})",
            remedy="restore the file from a backup, or give another --output",
        )
    kept = _move_aside(database)
    with atomic_path(database) as aside:
        aside.write_bytes(copy.read_bytes())
    made = datetime.fromtimestamp(copy.stat().st_mtime).astimezone()
    logger.warning(
        f"warning: {database} cannot be read ({damage}): its copy of {made:%Y-%m-%d %H:%M:%S} takes its place"
        + (f"; what was there is kept as {kept.name}" if kept else "")
    )


def has_all_of(database: Path, copy: Path) -> bool:
    """Whether a study's file has the ended trials and the validations of its copy, as on the same machine."""
    return all(read_rows(copy, query) <= read_rows(database, query) for query in _PROGRESS)


def holds_study(output: Path) -> bool:
    """Whether a folder holds a study, or what is left of one."""
    return any((output / name).exists() for name in (DATABASE, COPY, TRIALS_FOLDER, WORKERS_FOLDER))


def _never_began(output: Path) -> bool:
    """Whether a study was ended while its file was being made, so that resuming it is to begin it."""
    if any((output / name).exists() for name in (COPY, TRIALS_FOLDER, WORKERS_FOLDER)):
        return False
    return (output / DATABASE).is_file() and has_no_rows(output / DATABASE, _TABLES[0])


def _move_aside(database: Path) -> Path | None:
    """Rename a file with what SQLite keeps beside it; its new name, None where there was none."""
    target = database.with_name(f"{DATABASE}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    for end in _BESIDE:
        source = database.with_name(database.name + end)
        if source.exists():
            source.rename(target.with_name(target.name + end))
    return target if target.exists() else None


class StudyCopy(Callback):
    """Keeps the copy while trials run: it has every trial that has begun, and every end.

    Args:
        output: the study's folder.
    """

    def __init__(self, output: Path) -> None:
        self._output = output
        self._due, self._copied = False, time.monotonic()

    def on_trial_start(self, iteration: int, trials: "list[Trial]", trial: "Trial", **info: Any) -> None:
        """Note that a trial has begun."""
        self._due = True

    def on_trial_complete(self, iteration: int, trials: "list[Trial]", trial: "Trial", **info: Any) -> None:
        """Note that a trial has ended."""
        self._due = True

    def on_trial_error(self, iteration: int, trials: "list[Trial]", trial: "Trial", **info: Any) -> None:
        """Note that a trial has failed."""
        self._due = True

    def on_trial_result(
        self, iteration: int, trials: "list[Trial]", trial: "Trial", result: dict[str, Any], **info: Any
    ) -> None:
        """Note a result, for a copy now and then."""
        self._due = self._due or time.monotonic() - self._copied > _EVERY_S

    def on_step_end(self, iteration: int, trials: "list[Trial]", **info: Any) -> None:
        """Write the copy, once the study has heard of what was noted."""
        if self._due:
            keep_copy(self._output)
            self._due, self._copied = False, time.monotonic()
