"""Case files as they lie in a store, against the checksums of its manifest: each once a node.

Checking reads a whole file: 0.1 s for the 80 MB of a BraTS case. So the processes of a node share a list of
what they have checked, beside the case files in the node's cache.
"""

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from ossnet.data.store.cache import DataConfig, store_folder
from ossnet.data.store.case_file import check_digest

_LIST = "checked.txt"


@dataclass(frozen=True)
class CheckedFiles:
    """The files that had their checksum, for as long as they stay as they were then.

    Threads and processes may check at the same time. Where the list cannot be written, each process checks
    for itself.
    """

    config: DataConfig
    """Has the folder of the node's cache."""
    fingerprint: str
    """The store's."""
    _known: set[str] = field(default_factory=set, compare=False)

    def check(self, path: Path, digest: str, place: str) -> None:
        """Compare a file with its checksum, unless it was compared before.

        Args:
            path: a case file.
            digest: what the manifest says.
            place: the case and the node, for the error.

        Raises:
            CaseError: the file has another content.
        """
        line = _line(path, digest)
        if line in self._known:
            return
        self._known.update(self._read())
        if line in self._known:
            return
        check_digest(path, digest, place)
        self._known.add(line)
        self._add(line)

    def _folder(self) -> Path:
        """The store's in the cache; an OSError where no temporary folder can be written."""
        return store_folder(self.config.folder(), self.fingerprint)

    def _read(self) -> list[str]:
        try:
            return (self._folder() / _LIST).read_text().splitlines()
        except (OSError, ValueError):  # none yet, or nothing that can be used
            return []

    def _add(self, line: str) -> None:
        with suppress(OSError):  # then others check for themselves
            folder = self._folder()
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (folder / _LIST).open("ab", buffering=0) as lines:
                lines.write(f"{line}\n".encode())  # in one piece, whoever else adds


def _line(path: Path, digest: str) -> str:
    """A file as it is now, and the checksum that it is to have."""
    status = path.stat()
    return f"{digest} {status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns}"
