"""Case files that are not mapped where they lie: whatever gives them, as object storage does."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from ossnet.output.remote.url import open_filesystem

_CHUNK = 8 << 20  # bytes that are read at once


class CaseSource(Protocol):
    """Where a node gets case files that it cannot map."""

    def read(self, file: str) -> tuple[int, Iterator[memoryview]]:
        """The size of a file of the store in bytes, and its content in parts.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it cannot be read now.
        """
        ...


@dataclass(frozen=True)
class ObjectStorage:
    """A folder of object storage, of which each file is read as a whole."""

    url: str

    def read(self, file: str) -> tuple[int, Iterator[memoryview]]:
        """As `CaseSource.read`."""
        filesystem, root = self._filesystem
        stream = filesystem.open_input_file(f"{root}/{file}")
        return stream.size(), _parts(stream)

    def read_bytes(self, file: str) -> bytes:
        """The whole content of a file.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: it cannot be read now.
        """
        return b"".join(self.read(file)[1])

    @cached_property
    def _filesystem(self) -> tuple[Any, str]:
        """Pyarrow's file system, and the folder in it."""
        return open_filesystem(self.url)


def _parts(stream: Any) -> Iterator[memoryview]:
    with stream:
        while part := stream.read_buffer(_CHUNK):
            yield memoryview(part)
