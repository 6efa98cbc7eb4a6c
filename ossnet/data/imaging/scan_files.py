"""Which files are scans, by their names: those that are read, and those that must be reported."""

from collections.abc import Iterable
from pathlib import Path

from ossnet.data.imaging.formats import FOREIGN_SUFFIXES

SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
"""Of files that layouts look for, longest first."""
_PAIR = (".hdr.gz", ".img.gz", ".hdr", ".img")
_OTHERS = (
    *_PAIR,
    *FOREIGN_SUFFIXES,
    *(".mgh.gz", ".mnc.gz", ".nii.bz2", ".nii.zst", ".nii.xz", ".nii.zip"),
)


def image_suffix(path: Path) -> str | None:
    """The ending of a file that layouts look for, as it is written; None for other files."""
    lower = path.name.lower()
    return next((path.name[-len(end) :] for end in SUFFIXES if lower.endswith(end)), None)


def looks_like_scan(path: Path) -> bool:
    """Whether a name is that of a scan in any format, of which only some can be read."""
    lower = path.name.lower()
    return lower.endswith((*SUFFIXES, *_OTHERS)) and not path.name.startswith(".")


def stem(path: Path) -> str:
    """File name without the ending of a scan."""
    lower = path.name.lower()
    endings = sorted((*SUFFIXES, *_OTHERS), key=len, reverse=True)
    return next((path.name[: -len(end)] for end in endings if lower.endswith(end)), path.stem)


def one_of_each_pair(files: Iterable[Path]) -> list[Path]:
    """The files without the headers (`.hdr`) whose voxels (`.img`) are among them."""
    found = list(files)
    voxels = {file.with_name(stem(file)) for file in found if _half(file) == ".img"}
    return [file for file in found if _half(file) != ".hdr" or file.with_name(stem(file)) not in voxels]


def halves(file: Path) -> set[Path]:
    """The file itself, and where it is half of a pair all names that the other half may have."""
    if _half(file) is None:
        return {file}
    names = {file.name[: len(stem(file))] + end for each in _PAIR for end in (each, each.upper())}
    return {file, *(file.with_name(name) for name in names)}


def _half(file: Path) -> str | None:
    lower = file.name.lower()
    return next((end.removesuffix(".gz") for end in _PAIR if lower.endswith(end)), None)
