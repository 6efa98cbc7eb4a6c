"""What a file is like without its content: enough to see that it was exchanged, or is the same elsewhere."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class FileStamp(NamedTuple):
    """A file with its size and time."""

    path: str
    """Its absolute path."""
    size: int
    """Bytes."""
    time_ns: int
    """When it was last changed, in ns."""

    @classmethod
    def of(cls, path: Path) -> "FileStamp":
        """That of a file which is there.

        Raises:
            OSError: it is not.
        """
        state = path.stat()
        return cls(str(path.absolute()), state.st_size, state.st_mtime_ns)

    @property
    def holds(self) -> bool:
        """Whether this machine has the file at its path, unchanged."""
        try:
            return self == FileStamp.of(Path(self.path))
        except OSError:
            return False


def stamps_of(paths: Iterable[Path]) -> list[FileStamp]:
    """Those of files, as far as they are there."""
    found = list[FileStamp]()
    for path in paths:
        with suppress(OSError):
            found.append(FileStamp.of(path))
    return found
