"""A folder of scans, explained."""

from dataclasses import dataclass
from pathlib import Path

from ossnet.errors import UserError


@dataclass(frozen=True)
class Case:
    """One scan with its label. Files are those expected: whether they exist is for the reader to find out."""

    id: str
    images: tuple[Path, ...]
    """One 4-D file, or one file a modality in the source's order."""
    label: Path | None
    """None where the layout names or shows none."""
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
    """By rising id."""
    unmatched: dict[str, str]
    """Files that look like cases but are not, with the reason."""


def list_visible(folder: Path) -> list[Path]:
    """Entries of a folder by name, without hidden ones (archives made on a Mac carry some).

    Raises:
        UserError: the folder may not be read.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except PermissionError as error:
        msg = f"{folder}: may not be read; give yourself permission to read it"
        raise UserError(msg) from error
