"""A case to predict: which files its images are."""

from dataclasses import dataclass
from pathlib import Path

from ossnet.output.file_names import file_name


@dataclass(frozen=True)
class ScanInput:
    """A case to predict, or the reason why it cannot be."""

    case: str
    """The case's name."""
    images: tuple[Path, ...] = ()
    """A file with all modalities, or a file for each in the task's order."""
    error: str | None = None
    """Why it cannot be predicted; None where it can."""
    file: str = ""
    """What the names of its results begin with; by default made of the case's name."""

    def __post_init__(self) -> None:
        """Make the name of its files where none is given."""
        if not self.file:
            object.__setattr__(self, "file", file_name(self.case))
