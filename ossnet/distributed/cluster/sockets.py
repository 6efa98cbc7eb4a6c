"""A folder for a local cluster whose path is short enough for sockets."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ossnet.errors import UserError

_LIMIT = 107  # bytes of a socket's path, on Linux
_SOCKET = "/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store"  # in Ray's folder


@contextmanager
def short_folder() -> Iterator[Path]:
    """The folder in which Ray puts its files: the usual one, or a link to it where its path is too long.

    Batch systems set TMPDIR to paths that are too long. Files still lie there; the link goes with the block.

    Raises:
        UserError: there is no folder for the link, or Ray's own cannot be made.
    """
    folder = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp", "ray").absolute()
    if _fits(folder):
        yield folder
        return
    place = _short_place()
    if place is None:
        raise UserError(
            f"TMPDIR {folder.parent}",
            expected=f"a path of at most {_LIMIT - len(_SOCKET) - len('/ray')} bytes, for Ray's sockets",
            found=f"one of {len(os.fsencode(folder.parent))}, and no shorter folder that can be written",
            remedy="set RAY_TMPDIR to a short path",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (place / "ray").symlink_to(folder)
        yield place / "ray"
    except OSError as error:
        if not isinstance(error, FileNotFoundError | PermissionError | NotADirectoryError) or folder.is_dir():
            raise
        raise UserError(
            f"TMPDIR {folder.parent}",
            expected="a folder that can be written",
            found=str(error.strerror),
            remedy="set TMPDIR to another",
        ) from error
    finally:
        (place / "ray").unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)


def _short_place() -> Path | None:
    """A new folder of this process alone, with a short path; None where none can be made."""
    for parent in (os.environ.get("XDG_RUNTIME_DIR"), "/tmp", "/var/tmp", "/dev/shm", str(Path.home())):
        if parent is None or not _fits(Path(parent, "ray-00000000", "ray")):
            continue
        try:
            return Path(tempfile.mkdtemp(prefix="ray-", dir=parent))
        except OSError:
            continue
    return None


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder)) + len(_SOCKET) <= _LIMIT
