"""A benchmark of hours: its rows are written as each ends, and the same command goes on where it was cut."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol, Self, TypeVar

from ossnet.errors import UserError

Key = TypeVar("Key")
Row = TypeVar("Row", contravariant=True)


class GrowingResult(Protocol[Row]):
    """A result that gets a row after another."""

    def with_row(self, row: Row) -> Self:
        """A copy with one more row."""

    def write(self, path: Path) -> None:
        """Write it, atomically."""


Result = TypeVar("Result", bound=GrowingResult)


def add_rows(
    result: Result,
    path: Path,
    keys: Iterable[Key],
    make: Callable[[Key], Row],
    progress: Callable[[Row], None],
) -> Result:
    """The result with a row of each key, written after each of them.

    Args:
        path: the result's file.
        keys: what to make rows of, in order: those that the result lacks.
        make: makes a row, which may take hours.
        progress: called with each row when it is written.
    """
    for key in keys:
        row = make(key)
        result = result.with_row(row)
        result.write(path)
        progress(row)
    return result


def check_same(path: Path, settings: Iterable[tuple[str, object, object]]) -> None:
    """Reject a file whose rows were made with other settings.

    Args:
        settings: the name of each, its value in the file, and that of now.

    Raises:
        UserError: names what differs.
    """
    for name, before, now in settings:
        if before != now:
            raise UserError(
                f"{path}, {name}",
                expected=f"{before}, with which its rows were made",
                found=str(now),
                remedy="give the same options, or another --output",
            )


def emptied(folder: Path) -> Path:
    """The path of a row's folder, without what a row that was cut short left there."""
    if folder.exists():
        shutil.rmtree(folder)
    return folder
