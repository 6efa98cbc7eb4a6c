"""Files and folders that are whole or not there: written under another name, then renamed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from ossnet.errors import printable


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write a file atomically; its folder is made where it is missing.

    Raises:
        OSError: it cannot be written there.
    """
    with atomic_path(path) as aside:
        aside.write_bytes(printable(content).encode() if isinstance(content, str) else content)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A file to write in the block, renamed to `path` when the block ends without an error.

    Raises:
        OSError: it cannot be written there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{uuid4().hex[:12]}-{path.name}")  # the same suffix, which writers go by
    try:
        yield aside
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A new folder to fill in the block, renamed to `path` when the block ends without an error.

    What `path` held before is removed only after the new folder has its name.

    Raises:
        OSError: it cannot be written there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    token = uuid4().hex[:12]
    aside, before = path.with_name(f".{token}-{path.name}"), path.with_name(f".{token}-before-{path.name}")
    aside.mkdir()
    try:
        yield aside
        if path.exists():
            path.rename(before)
        aside.rename(path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)
