"""The files of a request: received up to a limit, and stored under names that can do no harm."""

import re
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.types import Message, Receive

from ossnet.data.imaging.dicom import holds_dicom, only_series, stated_series_bytes
from ossnet.data.imaging.header import files_of, stated_bytes
from ossnet.data.imaging.scan_files import stem
from ossnet.errors import UserError
from ossnet.memory.peak import GIB
from ossnet.output.file_names import file_name, file_names

_MOST_FILES = 10_000
"""Slices of DICOM series are files."""
_ENDING = re.compile(r"(\.\w{1,6}){0,2}", re.ASCII)


class TooLarge(UserError):  # noqa: N818 - as it is no fault
    """A scan has more bytes than the server takes."""


@dataclass(frozen=True)
class Upload:
    """A file as it was sent."""

    field: str
    """The field of the form, which says which modality it is."""
    name: str
    """What the client calls it."""
    content: BinaryIO


@asynccontextmanager
async def receive_uploads(request: Request, limit: int) -> AsyncIterator[list[Upload]]:
    """The files of a multipart form, in temporary files without a name until the block ends.

    Args:
        limit: bytes of the whole request; it is broken off there.

    Raises:
        TooLarge: there are more.
        UserError: a field holds text in place of a file.
    """
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limit:
        raise _too_large("upload", limit, int(stated))
    counted = Request(request.scope, _count(request.receive, limit))
    async with counted.form(max_files=_MOST_FILES) as form:
        yield [_upload(field, value) for field, value in form.multi_items()]


def store_uploads(uploads: Sequence[Upload], folder: Path) -> dict[str, Path]:
    """Write each field's file to a folder of its own; where there are several, the folder is the scan.

    Returns:
        The path of each field.

    Raises:
        UserError: several files that are no DICOM series.
    """
    folders = file_names({upload.field for upload in uploads})
    stored = dict[str, list[Path]]()
    for upload in uploads:
        files = stored.setdefault(upload.field, [])
        place = folder / folders[upload.field]
        place.mkdir(exist_ok=True)
        name = _safe_name(upload.name)
        files.append(place / (f"{len(files)}~{name}" if files else name))
        with files[-1].open("xb") as target:
            shutil.copyfileobj(upload.content, target)
    series = {field: folder / folders[field] for field, files in stored.items() if len(files) > 1}
    for field, path in series.items():
        if not holds_dicom(path):
            expected, found = "one file, or those of a DICOM series", f"{len(stored[field])} files"
            raise UserError(f"field {field}", expected=expected, found=found)
    return {field: files[0] for field, files in stored.items()} | series


def check_images(images: Sequence[Path], limit: int) -> None:
    """Reject images that would fill the memory, or that name other files, which are not the client's.

    Args:
        limit: bytes of the voxels of all together, unpacked, as the headers state them.

    Raises:
        TooLarge: there are more.
        UserError: an image is spread over files, or cannot be read.
    """
    total = 0
    for image in images:
        if holds_dicom(image):
            total += stated_series_bytes(only_series(image))
            continue
        others = [file.name for file in files_of(image) if file != image]
        if others:
            expected, found = "header and voxels in one file", f"voxels in {others[0]}"
            raise UserError(image, expected=expected, found=found, remedy="send it as .nii.gz")
        total += stated_bytes(image)
    if total > limit:
        raise _too_large("scan, unpacked", limit, total)


def without_folder(error: UserError, folder: Path) -> UserError:
    """The same error with the client's names of files, not with where they lie here."""
    return type(error)(str(error).replace(f"{folder}/", ""))


def _count(receive: Receive, limit: int) -> Receive:
    received = 0

    async def count() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise _too_large("upload", limit, received)
        return message

    return count


def _upload(field: str, value: UploadFile | str) -> Upload:
    if isinstance(value, str):
        remedy = f"write @ before its path, as in curl -F {field}=@scan.nii.gz"
        raise UserError(f"field {field}", expected="a file", found="text", remedy=remedy)
    return Upload(field, value.filename or "scan", value.file)


def _safe_name(name: str) -> str:
    """The name of a file without its folder; the ending, by which formats are known, stays."""
    path = Path(name.replace("\\", "/").rpartition("/")[2])
    ending = path.name[len(stem(path)) :]
    return file_name(stem(path)) + (ending if _ENDING.fullmatch(ending) else "")


def _too_large(where: str, limit: int, found: int) -> TooLarge:
    return TooLarge(
        where,
        expected=f"at most {limit / GIB:.3g} GiB",
        found=f"{found / GIB:.3g} GiB",
        remedy="crop or resample it, or start the server with a larger --max-upload",
    )
