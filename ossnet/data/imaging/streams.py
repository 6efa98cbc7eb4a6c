"""The bytes of image files: regular files only, decompressed by content, never more than are needed."""

import gzip
import io
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ossnet.errors import UserError

BROKEN = (OSError, EOFError, ValueError, zlib.error)
"""What reading a damaged file raises."""
MAX_GAP = 64 << 20
"""Bytes that may lie before the voxels (extensions) or behind them (padding)."""
_MAX_RATIO = 1032
"""How many bytes one byte of DEFLATE can stand for at most."""
_SUSPICIOUS = (64 << 20, 100)
"""Voxels of so many bytes, and so many times those of their file, are counted before they are believed."""
_CHUNK = 1 << 20


def check_regular(path: Path) -> None:
    """Reject what cannot be opened as a file: opening a FIFO would wait for ever.

    Raises:
        UserError: there is nothing, or something else than a regular file.
    """
    if path.is_file():
        return
    if path.is_symlink() and not path.exists():
        found = f"a link to {path.readlink()}, where nothing is"
    elif path.is_dir():
        found = "a folder"
    else:
        found = "no regular file" if path.exists() else "no file"
    raise UserError(path, expected="a NIfTI file", found=found, remedy="put it there or remove the case")


def is_compressed(path: Path) -> bool:
    """Whether a file is a gzip stream, whatever its name."""
    with path.open("rb") as stream:
        return stream.read(2) == b"\x1f\x8b"


class InflatedStream(io.RawIOBase):
    """The contents of a zlib or gzip stream that begins inside a file."""

    def __init__(self, path: Path, start: int) -> None:
        """Begin at the byte `start`."""
        self._file = path.open("rb")
        self._file.seek(start)
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 32)  # either of the two headers

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def readinto(self, buffer: "memoryview[int]") -> int:  # type: ignore[override]
        """Bytes read into the buffer, 0 at the end of the stream.

        Raises:
            EOFError: the file ends before the stream.
            zlib.error: the stream is damaged.
        """
        content = b""
        while len(buffer) and not content and not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._file.read(_CHUNK)
            content = self._inflate.decompress(packed, len(buffer))
            if not (packed or content or self._inflate.eof):
                raise EOFError("it ends early")
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


Stream = io.BufferedIOBase | InflatedStream


def open_stream(path: Path, deflated_at: int | None = None) -> Stream:
    """The file's bytes, decompressed where they are compressed.

    Args:
        deflated_at: where a zlib or gzip stream begins, of which the contents are meant.
    """
    if deflated_at is not None:
        return InflatedStream(path, deflated_at)
    return gzip.GzipFile(path, "rb") if is_compressed(path) else path.open("rb")


def fill(stream: Stream, buffer: UInt8[np.ndarray, " N"]) -> int:
    """Bytes read into the buffer; fewer than it has at the end of the stream."""
    filled = 0
    while filled < buffer.size and (count := stream.readinto(buffer[filled : filled + _CHUNK].data)):
        filled += count
    return filled


def skip(stream: Stream, count: int) -> int:
    """Bytes read and thrown away, at most `count`; fewer at the end of the stream."""
    skipped = 0
    while skipped < count and (part := stream.read(min(_CHUNK, count - skipped))):
        skipped += len(part)
    return skipped


def check_end(stream: Stream, path: Path) -> None:
    """Read a compressed stream to its end, where its checksum stands.

    Raises:
        UserError: too much lies behind the voxels, as in a file made to fill the memory.
    """
    if isinstance(stream, gzip.GzipFile | InflatedStream) and skip(stream, MAX_GAP + 1) > MAX_GAP:
        raise UserError(
            path,
            expected="the end of the file behind its voxels",
            found=f"over {MAX_GAP >> 20} MiB more",
            remedy="do not trust the file; export the scan again",
        )


def check_holds(path: Path, *, offset: int, size: int, deflated_at: int | None = None) -> None:
    """Reject a header that claims more voxels than its file can hold, before memory is taken for them.

    Args:
        offset: bytes before the first voxel.
        size: bytes of the voxels.
        deflated_at: as for `open_stream`.

    Raises:
        UserError: the voxels begin too late, or there are fewer of them.
    """
    if not 0 <= offset <= MAX_GAP:
        raise UserError(
            path,
            expected=f"voxels within the first {MAX_GAP >> 20} MiB",
            found=f"them to begin at byte {offset}",
            remedy="export the scan again",
        )
    stored = path.stat().st_size
    if deflated_at is None and not is_compressed(path):
        if stored < offset + size:
            raise ends_early(path, size, max(stored - offset, 0))
        return
    if size > stored * _MAX_RATIO:
        raise UserError(
            path,
            expected=f"{size} bytes of voxels, as its header says",
            found=f"{stored} compressed bytes, which cannot hold them",
            remedy="copy the file again, it is truncated or its header is wrong",
        )
    if size <= max(_SUSPICIOUS[0], _SUSPICIOUS[1] * stored):
        return
    if deflated_at is not None or _stated_size(path) != (offset + size) % 2**32:
        _count(path, offset, size, deflated_at)


def ends_early(path: Path, expected: int, found: int, reason: str = "it ends early") -> UserError:
    """The error for a file with fewer bytes of voxels than its header says."""
    return UserError(
        path,
        expected=f"{expected} bytes of voxels",
        found=f"{found} readable ones ({reason})",
        remedy="copy the file again, it is truncated or damaged",
    )


def reason_of(error: BaseException) -> str:
    """What an exception says, in one line."""
    return str(error).replace("\n", " ").rstrip(".") or type(error).__name__


def _stated_size(path: Path) -> int:
    """What the last four bytes of a gzip stream say of the size of its last part, modulo 2**32."""
    with path.open("rb") as stream:
        stream.seek(-4, io.SEEK_END)
        return int.from_bytes(stream.read(4), "little")


def _count(path: Path, offset: int, size: int, deflated_at: int | None) -> None:
    found, reason = 0, "it ends early"
    try:
        with open_stream(path, deflated_at) as stream:
            found = skip(stream, offset + size)
    except BROKEN as error:
        reason = reason_of(error)
    if found < offset + size:
        raise ends_early(path, size, max(found - offset, 0), reason)
