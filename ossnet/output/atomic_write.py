"""Files and folders that are whole or not there: written under another name, then renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EDQUOT, EFBIG, ENOSPC, EROFS
from pathlib import Path
from uuid import uuid4

from ossnet.errors import UserError, printable

NO_SPACE = frozenset({ENOSPC, EDQUOT, EFBIG})
"""Error numbers that say that a file system, a quota or a file is full."""
_DISK_FAULTS = NO_SPACE | {EROFS}
_DISK_FAULT_TEXTS = {os.strerror(number): os.strerror(number) for number in sorted(_DISK_FAULTS)} | {
    "database or disk is full": os.strerror(ENOSPC),  # SQLite's
    "attempt to write a readonly database": os.strerror(EROFS),
}


@contextmanager
def writing(path: Path, what: str = "file") -> Iterator[None]:
    """Make one line of what keeps the block from writing `path`; the block does nothing else.

    Args:
        what: what the path is.

    Raises:
        UserError: for every OSError; it names the path, the reason and the remedy.
    """
    try:
        yield
    except OSError as error:
        raise unwritable(path, error, what) from error


def unwritable(path: Path, error: OSError, what: str = "file") -> UserError:
    """The error for an output that cannot be written."""
    reason = os.strerror(error.errno) if error.errno else (str(error).splitlines() or [""])[0]
    return UserError(
        path,
        expected=f"a {what} that can be written",
        found=reason or type(error).__name__,
        remedy="free some space or name another --output"
        if error.errno in NO_SPACE
        else "name another --output",
    )


def disk_fault(error: BaseException) -> str | None:
    """Why a disk takes nothing more, in the system's words, where an error or one that it came from says so.

    No space is left, or the file system has become read-only. Libraries pass it on as errors of their own, of
    which only the text is left.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in _DISK_FAULTS:
            return os.strerror(cause.errno)
        for text, fault in _DISK_FAULT_TEXTS.items():
            if text in str(cause):
                return fault
        cause = cause.__cause__ or cause.__context__
    return None


def disk_error(error: BaseException) -> UserError:
    """The line for such an error."""
    name, fault = error.filename if isinstance(error, OSError) else None, disk_fault(error)
    remedy = "make it writable" if fault == os.strerror(EROFS) else "free some space"
    return UserError(
        str(name) if name else "the disk of --output, or of TMPDIR",
        expected="one that takes what the job writes",
        found=fault,
        remedy=f"{remedy}, or name another --output; what was finished is kept",
    )


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write a file atomically; its folder is made where it is missing.

    Raises:
        UserError: it cannot be written there.
    """
    with atomic_path(path) as aside:
        aside.write_bytes(printable(content).encode() if isinstance(content, str) else content)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A file to write in the block, renamed to `path` when the block ends without an error.

    Raises:
        UserError: it cannot be written there.
    """
    aside = path.with_name(f".{uuid4().hex[:12]}-{path.name}")  # the same suffix, which writers go by
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield aside
            aside.replace(path)
        finally:
            with suppress(OSError):
                aside.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill in the block, renamed to `path` when the block ends without an error.

    What `path` held before is removed only after the new folder has its name.

    Raises:
        UserError: it cannot be written there.
    """
    token = uuid4().hex[:12]
    aside, before = path.with_name(f".{token}-{path.name}"), path.with_name(f".{token}-before-{path.name}")
    with writing(path, "folder"):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside.mkdir()
        try:
            yield aside
            _exchange(aside, path, before)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(before, ignore_errors=True)


def _exchange(aside: Path, path: Path, before: Path) -> None:
    """Give a new folder its name; the old one comes back where that fails."""
    if not os.path.lexists(path):
        aside.rename(path)
        return
    path.rename(before)
    try:
        aside.rename(path)
    except OSError:
        before.rename(path)
        raise
