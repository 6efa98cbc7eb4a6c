"""SQLite files as the stores of MLflow and Optuna: their URLs, and a lock for making one."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from ossnet.errors import UserError

_SCHEME = "sqlite:///"
_LOCK_S = 300.0  # making a store takes seconds, and a job array may queue for it
_BUSY_S = 30.0


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

    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=_LOCK_S, poll_interval=0.2)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(
            path,
            expected="a store that another job makes within five minutes",
            found="one that is still locked",
            remedy="see what the other job does, or name another file",
        ) from error
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
