"""Files and folders that are whole or not there: written under another name, then renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path
from uuid import uuid4

from ossnet.errors import UserError, printable

NO_SPACE = frozenset({ENOSPC, EDQUOT, EFBIG})
"""Error numbers that say that a file system, a quota or a file is full."""
_NO_SPACE_TEXTS = (*map(os.strerror, sorted(NO_SPACE)), "database or disk is full")


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


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that there is no space left.

    Libraries pass it on as errors of their own, of which only the text is left.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in NO_SPACE:
            return True
        if any(text in str(cause) for text in _NO_SPACE_TEXTS):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def disk_full(error: BaseException) -> UserError:
    """The line for such an error."""
    name = error.filename if isinstance(error, OSError) else None
    return UserError(
        str(name) if name else "the disk of --output, or of TMPDIR",
        expected="space for what the job writes",
        found="none left",
        remedy="free some, or name another --output; what was finished is kept",
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
