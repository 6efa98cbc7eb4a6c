"""Types of a layout's result: cases, modalities and labels of a folder of scans."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ossnet.errors import UserError


@dataclass(frozen=True)
class Case:
    """A scan with its label. Its files are the expected ones: the reader checks whether they exist."""

    id: str
    images: tuple[Path, ...]
    """A single 4-D file, or a file for each modality in the source's order."""
    label: Path | None
    """The label's file; None where the layout names or shows none."""
    group: str
    """The patient: cases of one group never part in splits."""


@dataclass(frozen=True)
class Source:
    """A folder of cases as its layout explains it."""

    root: Path
    layout: str
    modalities: tuple[str, ...]
    labels: dict[str, int]
    """Name and voxel value, without background, by rising value."""
    cases: tuple[Case, ...]
    """The cases, sorted by id; no two have one id."""
    unmatched: dict[str, UserError]
    """Files named like cases that are none, each with the error that says why."""
    warnings: tuple[UserError, ...] = ()
    """What is strange about the source as a whole, and yet can be used."""


@dataclass(frozen=True)
class Layout:
    """A convention for folders of scans."""

    name: str
    """The name that `--layout` takes."""
    example: str
    """A description of a source of this layout, for the message where none is recognized."""
    recognizes: Callable[[Path], bool]
    """Whether a folder is laid out so.

    Raises:
        UserError: the folder has a description of this layout that is broken.
    """
    read: Callable[[Path], Source]
    """Explains a folder or file.

    Raises:
        UserError: a broken description, or files that make no cases.
    """


def list_visible(folder: Path) -> list[Path]:
    """Entries of a folder by name, without hidden ones (archives made on a Mac carry some).

    Raises:
        UserError: the folder may not be read.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except PermissionError as error:
        raise unreadable(folder, "folder") from error


def report(unmatched: dict[str, UserError], name: str, error: UserError) -> None:
    """Add a file to those that are no case, under a key of its own."""
    key, number = name, 2
    while key in unmatched:
        key, number = f"{name} ({number})", number + 1
    unmatched[key] = error


def unreadable(path: Path, kind: str) -> UserError:
    """The error for a file or folder that the user has no permission to read."""
    return UserError(
        path,
        expected=f"a {kind} that may be read",
        found="no permission",
        remedy="give yourself permission to read it",
    )
