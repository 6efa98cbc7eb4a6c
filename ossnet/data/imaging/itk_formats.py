"""Headers of MetaImage (`.mha`, `.mhd`) and of NRRD (`.nrrd`, `.nhdr`), for which pynrrd is needed.

Their world has its first axis to the left and its second to the back (LPS); ours is RAS.

Legend: X Y Z voxel axes in nibabel order.
"""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ossnet.data.imaging.formats import conversion
from ossnet.data.imaging.streams import BROKEN, check_regular, reason_of
from ossnet.errors import UserError

META_IMAGE, NRRD = "MetaImage", "NRRD"
_FORMATS = {".mha": META_IMAGE, ".mhd": META_IMAGE, ".nrrd": NRRD, ".nhdr": NRRD}
_MAX_HEADER = 1 << 20
"""Bytes within which a header must end."""
_META_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG": "i4",
    "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_NRRD_TYPES = {"float": "f4", "double": "f8"}
_NRRD_INTEGERS = {"char": "1", "short": "2", "int": "4", "long long": "8", "longlong": "8"}
_TO_RAS = {
    "left-posterior-superior": (-1, -1, 1),
    "lps": (-1, -1, 1),
    "right-anterior-superior": (1, 1, 1),
    "ras": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "las": (-1, 1, 1),
}
_LPS = np.diag([-1.0, -1.0, 1.0])


@dataclass(frozen=True)
class ItkHeader:
    """What a header says of the voxels and of where they are."""

    shape: tuple[int, int, int]
    affine: Float[np.ndarray, "4 4"]
    """From voxel indices to mm in RAS."""
    placed: bool
    """Whether the header says which side is left."""
    channels: int
    interleaved: bool
    """Whether the channels of a voxel lie side by side, where they would else lie one behind the other."""
    dtype: np.dtype
    voxels: Path
    """The file that holds the voxels: that of the header, or another one beside it."""
    offset: int
    """Bytes of that file before the first voxel, or before the stream that holds it."""
    deflated: bool
    """Whether a zlib or gzip stream begins there."""


def itk_format(path: Path) -> str | None:
    """The format of a file by its name: MetaImage, NRRD, or None for any other."""
    return _FORMATS.get(path.suffix.lower())


def read_itk_header(path: Path) -> ItkHeader:
    """The header of a MetaImage or NRRD file.

    Raises:
        UserError: no such file, a header that cannot be, voxels that are not read here, or no pynrrd.
    """
    check_regular(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(_MAX_HEADER)
        return _meta_image(path, head) if itk_format(path) == META_IMAGE else _nrrd(path, head)
    except UserError:
        raise
    except (*BROKEN, LookupError, TypeError) as error:
        raise _bad(path, reason_of(error)) from error


def _meta_image(path: Path, head: bytes) -> ItkHeader:
    fields, size = _meta_fields(path, head)
    dimensions = [int(size) for size in fields["dimsize"].split()]
    if len(dimensions) != int(fields["ndims"]):
        raise _bad(path, f"DimSize {fields['dimsize']} of NDims {fields['ndims']}")
    count = len(dimensions)
    directions = _numbers(
        fields, ("transformmatrix", "rotation", "orientation"), np.eye(count).ravel().tolist()
    )
    sizes = _numbers(fields, ("elementspacing", "elementsize"), [1.0] * count)
    origin = _numbers(fields, ("offset", "position", "origin"), [0.0] * count)
    affine = np.eye(4)
    affine[:3, :3] = _LPS @ (np.reshape(directions, (count, count))[:3, :3].T * np.array(sizes[:3]))
    affine[:3, 3] = _LPS @ origin[:3]
    inside, deflated = int(fields.get("elementnumberofchannels", 1)), _is_true(fields.get("compresseddata"))
    big = _is_true(fields.get("binarydatabyteordermsb", fields.get("elementbyteordermsb")))
    if not _is_true(fields.get("binarydata", "True")) or fields["elementtype"] not in _META_TYPES:
        raise _unread(path, META_IMAGE, f"{fields['elementtype']} as text or of another kind")
    dtype = np.dtype(f"{'>' if big else '<'}{_META_TYPES[fields['elementtype']]}")
    local = fields["elementdatafile"].upper() == "LOCAL"
    voxels = path if local else _beside(path, fields["elementdatafile"], META_IMAGE)
    offset = size if local else int(fields.get("headersize", 0))
    if offset < 0:  # the voxels are the end of the file
        offset = voxels.stat().st_size - prod(dimensions) * inside * dtype.itemsize
    shape, channels = _shape(path, dimensions, inside)
    return ItkHeader(shape, affine, True, channels, inside > 1, dtype, voxels, offset, deflated)


def _meta_fields(path: Path, head: bytes) -> tuple[dict[str, str], int]:
    """The fields by their names in lower case, and the bytes of the header; the data file is the last one."""
    found: dict[str, str] = {}
    stream = io.BytesIO(head)
    for line in stream:
        name, _, value = line.decode("utf-8", "surrogateescape").partition("=")
        found[name.strip().lower()] = value.strip()
        if "elementdatafile" in found:
            return found, stream.tell()
    raise _bad(path, "no ElementDataFile")


def _nrrd(path: Path, head: bytes) -> ItkHeader:
    fields, size = _nrrd_fields(path, head)
    encoding = str(fields["encoding"]).lower()
    if encoding not in ("raw", "gzip", "gz"):
        raise _unread(path, NRRD, f"the encoding {encoding}")
    sizes = [int(size) for size in fields["sizes"]]
    steps, channel_axis = _nrrd_steps(path, fields, len(sizes))
    inside = sizes.pop(0) if channel_axis == 0 else 1
    dtype = _nrrd_type(path, str(fields["type"]).lower(), str(fields.get("endian", "little")).lower())
    space = str(fields.get("space", "")).lower()
    if space and space not in _TO_RAS:
        raise _unread(path, NRRD, f"the space {space}")
    placed = "space directions" in fields
    signs = np.diag(np.array(_TO_RAS[space or ("lps" if placed else "las")], float))  # lps as ITK takes it
    affine = np.eye(4)
    affine[:3, :3] = signs @ steps.T
    affine[:3, 3] = signs @ np.array(fields.get("space origin", (0, 0, 0)), float)[:3]
    if int(fields.get("line skip", 0)) or int(fields.get("byte skip", 0)) > 0:
        raise _unread(path, NRRD, "skipped lines or bytes")
    file = fields.get("data file", fields.get("datafile"))
    voxels, offset = (path, size) if file is None else (_beside(path, str(file), NRRD), 0)
    deflated = encoding != "raw"
    shape, channels = _shape(path, sizes, inside)
    if int(fields.get("byte skip", 0)) < 0 and not deflated:
        offset = voxels.stat().st_size - prod(sizes) * inside * dtype.itemsize
    return ItkHeader(shape, affine, placed, channels, inside > 1, dtype, voxels, offset, deflated)


def _nrrd_fields(path: Path, head: bytes) -> tuple[dict[str, Any], int]:
    try:
        import nrrd
    except ImportError as error:
        raise UserError(
            path,
            expected="the package pynrrd, to read NRRD",
            found="none",
            remedy=f"install ossnet[formats], or {conversion(path, NRRD)}",
        ) from error
    end = re.search(rb"\r?\n\r?\n", head)
    text = head if end is None else head[: end.end()]
    try:
        return dict(nrrd.read_header(io.BytesIO(text))), len(text)
    except (nrrd.NRRDError, AssertionError, StopIteration) as error:
        raise _bad(path, reason_of(error)) from error


def _nrrd_steps(path: Path, fields: Mapping[str, Any], axes: int) -> tuple[Float[np.ndarray, "A 3"], int]:
    """The step in space of each spatial axis, and the axis of channels: 0, the last, or -1 for none."""
    given = fields.get("space directions")
    kinds = [str(kind) for kind in fields.get("kinds", ())]
    if given is None:
        spacings = np.nan_to_num(np.array(fields.get("spacings", [1.0] * axes), float), nan=1.0)
        listed = [kind not in ("domain", "space") for kind in kinds] or [axis > 2 for axis in range(axes)]
        rows = [np.full(3, spacing) for spacing in spacings]
    else:
        vectors = [np.full(3, np.nan) if row is None else np.array(row, float) for row in given]
        listed = [bool(np.isnan(row).any() or row[3:].any()) for row in vectors]
        rows = [row[:3] for row in vectors]
    channel = listed.index(True) if any(listed) else -1
    if sum(listed) > 1 or channel not in (-1, 0, axes - 1) or len(rows) != axes:
        raise _unread(path, NRRD, f"the kinds {' '.join(kinds) or 'none'} of {axes} axes")
    steps = np.array([row for row, is_channel in zip(rows, listed, strict=True) if not is_channel])
    return (steps if given is not None else np.diag(steps[:, 0])), channel


def _nrrd_type(path: Path, name: str, endian: str) -> np.dtype:
    order = ">" if endian == "big" else "<"
    if name in _NRRD_TYPES:
        return np.dtype(order + _NRRD_TYPES[name])
    sized = re.fullmatch(r"(u?)int(8|16|32|64)(_t)?", name)
    if sized:
        return np.dtype(f"{order}{'u' if sized[1] else 'i'}{int(sized[2]) // 8}")
    plain = name.removeprefix("signed ").removeprefix("unsigned ")
    unsigned = name.startswith("unsigned") or (plain.startswith("u") and plain[1:] in _NRRD_INTEGERS)
    plain = plain.removeprefix("u") if unsigned else plain
    plain = plain if plain in _NRRD_INTEGERS else plain.removesuffix(" int")
    if plain not in _NRRD_INTEGERS:
        raise _unread(path, NRRD, f"voxels of the type {name}")
    return np.dtype(f"{order}{'u' if unsigned else 'i'}{_NRRD_INTEGERS[plain]}")


def _shape(path: Path, sizes: Sequence[int], inside: int) -> tuple[tuple[int, int, int], int]:
    """The voxels along each axis, and the number of channels."""
    if len(sizes) not in (3, 4) or min(sizes) < 1 or inside < 1 or (len(sizes) == 4 and inside > 1):
        raise UserError(
            path,
            expected="a 3-D image or a 4-D one of channels",
            found=f"shape {(*sizes, inside) if inside != 1 else tuple(sizes)}",
            remedy="split or convert it",
        )
    return (sizes[0], sizes[1], sizes[2]), sizes[3] if len(sizes) == 4 else inside


def _beside(path: Path, name: str, kind: str) -> Path:
    """The file of the voxels, by its name in a header."""
    if name.upper().startswith("LIST") or "%" in name:
        raise _unread(path, kind, "voxels in many files")
    voxels = path.parent / name.replace("\\", "/")
    check_regular(voxels)
    return voxels


def _numbers(fields: Mapping[str, str], names: Sequence[str], default: Sequence[float]) -> list[float]:
    text = next((fields[name] for name in names if name in fields), None)
    found = list(default) if text is None else [float(number) for number in text.split()]
    if len(found) != len(default):
        msg = f"{len(found)} numbers where {len(default)} belong: {text}"
        raise ValueError(msg)
    return found


def _is_true(text: str | None) -> bool:
    return str(text).lower() in ("true", "1", "yes", "t")


def _bad(path: Path, reason: str) -> UserError:
    return UserError(
        path,
        expected=f"a {itk_format(path)} file with a valid header",
        found=reason,
        remedy="correct the header or export the scan again",
    )


def _unread(path: Path, kind: str, found: str) -> UserError:
    return UserError(
        path, expected=f"{kind} of plain or gzip numbers", found=found, remedy=conversion(path, kind)
    )
