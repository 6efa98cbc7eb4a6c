"""Where a store lies: in a folder, or under a URL of object storage.

Object storage is read through `pyarrow.fs`, which finds credentials, region and endpoint as its makers' own
tools do (`AWS_PROFILE`, `AWS_ENDPOINT_URL`, a machine's role, ...).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from ossnet.errors import UserError

SCHEMES = ("s3", "gs", "abfs", "abfss")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,3}([^/].*)", re.DOTALL)  # a `Path` drops a slash
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


def parse_location(location: Path | str) -> Path | str:
    """A folder as a path, a URL as text.

    Raises:
        UserError: a URL of a kind that cannot be read.
    """
    match = _URL.fullmatch(str(location))
    if match is None:
        return Path(location)
    scheme, rest = match[1].lower(), match[2].rstrip("/")
    if scheme == "file":
        return Path("/" + rest)
    if scheme not in SCHEMES:
        raise UserError(
            f"{scheme}://{rest}",
            expected=f"a folder, or a URL that begins with {', '.join(f'{name}://' for name in SCHEMES)}",
            found=f"{scheme}://",
            remedy="copy the store to one of these",
        )
    return f"{scheme}://{rest}"


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
        from pyarrow import ArrowInvalid, ArrowNotImplementedError
        from pyarrow.fs import FileSystem

        try:
            filesystem, root = FileSystem.from_uri(self.url)
        except (ArrowInvalid, ArrowNotImplementedError, ImportError) as error:
            raise UserError(
                self.url,
                expected="a URL that pyarrow.fs can read",
                found=str(error).splitlines()[0],
                remedy="correct it, or install a pyarrow that can",
            ) from error
        return filesystem, root


def _parts(stream: Any) -> Iterator[memoryview]:
    with stream:
        while part := stream.read_buffer(_CHUNK):
            yield memoryview(part)
