"""A copy of MLflow's SQLite file in object storage, from which a machine that is made anew goes on."""

import contextlib
import logging
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from ossnet.distributed._sqlite import copy_database, find_damage
from ossnet.errors import UserError
from ossnet.output.atomic_write import atomic_path
from ossnet.output.duration import counted
from ossnet.output.file_stamp import FileStamp, stamps_of
from ossnet.output.remote.folder import RemoteFolder, unreachable

logger = logging.getLogger(__name__)

_EVERY_S = 60.0
_TABLES = ("experiments", "runs", "latest_metrics")
_BESIDE = ("-journal", "-wal", "-shm")  # SQLite's own files of one database
_LACKING = """
SELECT run_uuid FROM backup.runs AS there
WHERE NOT EXISTS (SELECT 1 FROM main.runs WHERE run_uuid = there.run_uuid)
UNION SELECT run_uuid FROM backup.latest_metrics AS there
WHERE NOT EXISTS (
    SELECT 1 FROM main.latest_metrics AS here
    WHERE here.run_uuid = there.run_uuid AND here.key = there.key AND here.step >= there.step
)
"""


@dataclass
class Backup:
    """A file of MLflow's, and its copy below a URL."""

    file: Path
    folder: RemoteFolder
    _stamps: list[FileStamp] = field(default_factory=list)
    """Those of the file as it is in the copy."""

    @property
    def url(self) -> str:
        """The URL of the copy."""
        return f"{self.folder.url}/{self.file.name}"

    def restore(self) -> bool:
        """Make the file from its copy where the disk has none; whether it did.

        Raises:
            UserError: the storage cannot be used; the copy is damaged; or there is a file, which lacks runs
                that the copy has.
        """
        copy = self._fetch()
        if copy is not None and self.file.exists():
            self._check_all_of(copy, self.file)
        if copy is None or self.file.exists():
            return False
        damage = find_damage(copy, _TABLES)
        if damage is not None:
            remedy = "put an earlier version in its place, or remove it to begin without runs"
            raise UserError(self.url, expected="a copy of MLflow's file", found=damage, remedy=remedy)
        for end in _BESIDE:  # of a file that is gone: they would be taken for this one's
            self.file.with_name(self.file.name + end).unlink(missing_ok=True)
        with atomic_path(self.file) as aside:
            shutil.copyfile(copy, aside)
        return True

    def update(self) -> bool:
        """Upload the file if it has changed since the last time; whether it did.

        Raises:
            UserError: the storage cannot be used; or the file lacks runs that the copy has, as an older or a
                new one does.
            sqlite3.Error: the file cannot be read.
        """
        stamps = stamps_of([self.file, self.file.with_name(self.file.name + "-wal")])
        if stamps == self._stamps or not self.file.exists():
            return False
        copy = self.folder.path / self.file.name
        with TemporaryDirectory(prefix=".", dir=self.folder.path) as aside:
            fresh = Path(aside) / copy.name
            copy_database(self.file, fresh)
            if self._fetch() is not None:
                self._check_all_of(copy, fresh)
            fresh.replace(copy)
        with _storage(self.url):
            self.folder.push(copy)
        self._stamps = stamps
        return True

    def _fetch(self) -> Path | None:
        """The copy as it is in the storage; None where it has none."""
        with _storage(self.url):
            if self.folder.file(self.file.name) is None:
                return None
            self.folder.pull_file(self.file.name)
        return self.folder.path / self.file.name

    def _check_all_of(self, copy: Path, file: Path) -> None:
        """Reject a file that does not go on from the copy, so that it never takes its place."""
        try:
            with contextlib.closing(sqlite3.connect(file)) as database:
                database.execute("ATTACH ? AS backup", (str(copy),))
                lacking = len(database.execute(_LACKING).fetchall())
            found = f"one that lacks {counted(lacking, 'run')}, or the last steps"
        except sqlite3.Error as error:  # as where it has no tables
            lacking, found = 1, str(error)
        if lacking:
            raise UserError(
                self.file,
                expected=f"a file that goes on from {self.url}",
                found=found,
                remedy="move it away and restore that one, or remove that one to give it up",
            )


@contextlib.contextmanager
def _storage(url: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise unreachable(url, error) from error


def keep(backup: Backup, ended: threading.Event, *, every_s: float = _EVERY_S) -> None:
    """Update a backup again and again until an event is set, and then once more.

    What keeps it from that is a line, once, and tried again.
    """
    said, last = "", False
    while not last:
        last = ended.wait(every_s)
        try:
            backup.update()
            said = ""
        except (UserError, sqlite3.Error) as error:
            line = f"warning: {backup.url} is not up to date: {error}"
            if line != said:
                logger.warning(line)
            said = line


@contextlib.contextmanager
def sole_keeper(file: Path) -> Iterator[None]:
    """Have one process at a time keep a backup of a file.

    Raises:
        UserError: another one does.
    """
    from filelock import FileLock, Timeout

    try:
        with FileLock(file.with_name(f".{file.name}-backup.lock"), timeout=0):
            yield
    except Timeout as error:
        remedy = "leave it to that one"
        raise UserError(file, expected="no backup", found="one by another process", remedy=remedy) from error
