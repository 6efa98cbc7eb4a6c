"""What a file is that cannot be read: its format by name, and the command that makes NIfTI of it."""

import json
from pathlib import Path
from shlex import quote

from ossnet.errors import printable

FOREIGN_SUFFIXES = (".mgz", ".mgh", ".mnc", ".dcm", ".ima")
"""Endings of scans in formats that are named, not read."""

_ITK = "pip install SimpleITK, then python -c {0}"
_ITK_SCRIPT = "import SimpleITK as s; s.WriteImage(s.ReadImage({0}), {1})"
_COMMANDS = {
    "MGH": "nib-convert {0} {1}",
    "MINC": "mnc2nii {0} {1}",
    "NRRD": _ITK,
    "MetaImage": _ITK,
    "DICOM": "dcm2niix -z y -o {2} {2}",
    "Analyze 7.5": "nib-convert {0} {1}",
    "a zip archive": "unzip {0}",
    "a bzip2 archive": "bunzip2 {0}",
    "an xz archive": "unxz {0}",
    "a Zstandard archive": "unzstd {0}",
    "a Git LFS pointer": "git lfs pull",
}
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (128, b"DICM", "DICOM"),
    (0, b"NRRD", "NRRD"),
    (0, b"ObjectType", "MetaImage"),
    (0, b"NDims", "MetaImage"),
    (0, b"CDF\x01", "MINC"),
    (0, b"CDF\x02", "MINC"),
    (0, b"\x89HDF\r\n", "MINC"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ", "an xz archive"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (0, b"version https://git-lfs", "a Git LFS pointer"),
    (0, b"\x89PNG", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"II*\x00", "a TIFF picture"),
    (0, b"MM\x00*", "a TIFF picture"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"<!DOCTYPE", "a web page"),
    (0, b"<html", "a web page"),
)
_BY_SUFFIX = {
    ".mgz": "MGH",
    ".mgh": "MGH",
    ".mnc": "MINC",
    ".nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
    ".dcm": "DICOM",
    ".ima": "DICOM",
}


def foreign_format(path: Path, head: bytes = b"") -> str | None:
    """The format of a file that is no NIfTI, by its first bytes or else by its name; None where unknown.

    Args:
        head: the first bytes, decompressed; 348 of them are enough.
    """
    for place, magic, name in _MAGIC:
        if head[place : place + len(magic)] == magic:
            return name
    if 348 in (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")) and len(head) >= 348:
        return "Analyze 7.5"
    return _BY_SUFFIX.get(path.suffix.lower())


def conversion(path: Path, name: str) -> str:
    """What to do with a file of a foreign format, in the imperative."""
    command = _COMMANDS.get(name)
    if command is None:
        return "export the scan as NIfTI"
    target = path.name.split(".")[0] + ".nii.gz"
    if name == "MINC":
        target = target.removesuffix(".gz")  # as mnc2nii does not compress
    if command is _ITK:
        script = _ITK_SCRIPT.format(json.dumps(printable(path.name)), json.dumps(printable(target)))
        return "convert it: " + command.format(quote(script))
    names = (quote(path.name), quote(target), quote(path.parent.name or "."))
    verb = "unpack it" if "archive" in name else "fetch the file" if "LFS" in name else "convert it"
    return f"{verb}: {command.format(*names)}"
