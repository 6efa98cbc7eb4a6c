"""Files that are whole or not there."""

from pathlib import Path
from uuid import uuid4


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write a file under another name and rename it, so that nothing half-written is left.

    Raises:
        OSError: it cannot be written there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{uuid4().hex}-{path.name}")
    try:
        aside.write_bytes(content.encode() if isinstance(content, str) else content)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
