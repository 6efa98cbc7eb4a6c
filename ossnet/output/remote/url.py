"""Where files lie: in a folder, or under a URL of object storage.

Object storage is reached through `pyarrow.fs`, which finds credentials, region and endpoint as its makers'
own tools do (`AWS_PROFILE`, `AWS_ENDPOINT_URL`, a machine's role, ...).
"""

import re
from pathlib import Path
from typing import Any

from ossnet.errors import UserError

SCHEMES = ("s3", "gs", "abfs", "abfss")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,3}([^/].*)", re.DOTALL)  # a `Path` drops a slash


def parse_location(location: Path | str) -> Path | str:
    """A folder as a path, a URL as text.

    Raises:
        UserError: a URL of a kind that cannot be reached.
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
            remedy="name one of these",
        )
    return f"{scheme}://{rest}"


def open_filesystem(url: str) -> tuple[Any, str]:
    """Pyarrow's file system of a URL, and the folder in it.

    Raises:
        UserError: this pyarrow cannot reach it.
    """
    from pyarrow import ArrowInvalid, ArrowNotImplementedError
    from pyarrow.fs import FileSystem

    try:
        filesystem, root = FileSystem.from_uri(url)
    except (ArrowInvalid, ArrowNotImplementedError, ImportError) as error:
        raise UserError(
            url,
            expected="a URL that pyarrow.fs can reach",
            found=str(error).splitlines()[0],
            remedy="correct it, or install a pyarrow that can",
        ) from error
    return filesystem, root
