"""SQLite files as the stores of MLflow and Optuna: their URLs, copies, and a lock for making one."""

import contextlib
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ossnet.errors import UserError
from ossnet.output.atomic_write import atomic_path
from ossnet.output.waiting import Waiting

_SCHEME = "sqlite:///"
_LOCK_S = 300.0  # making a store takes seconds, and a job array may queue for it
_LOOK_S = 5.0  # until it may be said that the lock is waited for
_BUSY_S = 30.0
LOCKED_S = 120.0
"""How long a running job waits for a database that another process keeps to itself."""


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file, as SQLAlchemy reads it; it is the plain path unless that has a % or ?."""
    return _SCHEME + str(path).replace("%", "%25").replace("?", "%3F")


def sqlite_path(url: str) -> Path | None:
    """The file of a SQLite URL; None for the URL of anything else, a server as an example."""
    if not url.startswith(_SCHEME):
        return None
    return Path(unquote(url.removeprefix(_SCHEME).partition("?")[0]))


@contextlib.contextmanager
def creation_lock(path: Path) -> Iterator[None]:
    """Keep other processes from making or opening the store in this file inside the block.

    Where the folder takes no lock, as one that is read-only or on some network file systems, there is none.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=_LOOK_S, poll_interval=0.2)
    waiting, until = Waiting(f"{path}, which another job makes"), time.monotonic() + _LOCK_S
    while not lock.is_locked:
        try:
            lock.acquire()
        except Timeout as error:
            if time.monotonic() > until:
                raise UserError(
                    path,
                    expected="a store that another job makes within five minutes",
                    found="one that is still locked",
                    remedy="see what the other job does, or name another file",
                ) from error
            waiting.check(lambda: "its lock")
        except (OSError, NotImplementedError):
            yield
            return
    try:
        yield
    finally:
        lock.release()


def check_database(path: Path, *, write: bool) -> None:
    """Reject a SQLite file that cannot be used, before a library tries again for minutes.

    Args:
        write: also check that it can be written; it is made where there is none.

    Raises:
        UserError: names the file and SQLite's reason.
    """
    try:
        if write:
            path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)) as database:
            database.execute("SELECT count(*) FROM sqlite_master").fetchall()
            if write:
                database.execute("BEGIN IMMEDIATE")
                database.execute("ROLLBACK")
    except (OSError, sqlite3.Error) as error:
        raise UserError(
            path,
            expected=f"a SQLite file that can be {'written' if write else 'read'}",
            found=str(error),
            remedy="check the path, its permissions and the space on the disk, or name another",
        ) from error


def copy_database(path: Path, copy: Path) -> None:
    """Write a consistent copy of a SQLite file that may be in use; an earlier one stays until it is whole.

    Raises:
        sqlite3.Error: the file cannot be read.
        UserError: the copy cannot be written.
    """
    with (
        atomic_path(copy) as aside,
        contextlib.closing(sqlite3.connect(path, timeout=_BUSY_S)) as source,
        contextlib.closing(sqlite3.connect(aside)) as target,
    ):
        source.backup(target)


def has_no_rows(path: Path, table: str) -> bool:
    """Whether a SQLite file that can be read has no such table, or nothing in it."""
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_S)) as database:
            names = {name for (name,) in database.execute("SELECT name FROM sqlite_master").fetchall()}
            if table not in names:
                return True
            (count,) = database.execute(f"SELECT count(*) FROM {table}").fetchone()
            return int(count) == 0
    except sqlite3.DatabaseError:
        return False


def read_rows(path: Path, query: str) -> set[tuple[Any, ...]]:
    """The rows of a query.

    Raises:
        sqlite3.Error: the file cannot be read, or lacks a table.
    """
    with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_S)) as database:
        return set(database.execute(query).fetchall())


def find_damage(path: Path, tables: Iterable[str]) -> str | None:
    """What is wrong with a SQLite file, in a few words; None where nothing is, or where it is locked.

    Args:
        tables: those that it must have, none of the first one's rows missing.
    """
    tables = list(tables)
    if path.stat().st_size == 0:
        return "it is empty"
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=_BUSY_S)) as database:
            rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            missing = set(tables) - {name for (name,) in rows}
            if missing:
                return f"it has no table {min(missing)}"
            (result,) = database.execute("PRAGMA integrity_check(1)").fetchone()
            if result != "ok":
                return str(result).splitlines()[-1]
            (count,) = database.execute(f"SELECT count(*) FROM {tables[0]}").fetchone()
            return None if count else f"its table {tables[0]} is empty"
    except sqlite3.DatabaseError as error:
        locked = error.sqlite_errorcode in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
        return None if locked else str(error)
