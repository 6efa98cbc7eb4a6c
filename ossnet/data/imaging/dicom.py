"""Series of DICOM files, as scanners and archives give them, for which highdicom is needed.

DICOM's world has its first axis to the left and its second to the back (LPS); ours is RAS.

Legend: X Y Z voxel axes: a slice's columns, its rows, the slices.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32

from ossnet.data.imaging.formats import conversion
from ossnet.data.imaging.scan_files import image_suffix
from ossnet.data.imaging.streams import BROKEN, reason_of
from ossnet.errors import UserError

if TYPE_CHECKING:
    from pydicom import Dataset

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_TAGS = (
    "SeriesInstanceUID",
    "StudyInstanceUID",
    "SeriesDescription",
    "SeriesNumber",
    "ImageOrientationPatient",
    "NumberOfFrames",
    "SharedFunctionalGroupsSequence",
    "SegmentSequence",
)
_BROKEN = (*BROKEN, LookupError, TypeError, AttributeError, RuntimeError, NotImplementedError)
"""What reading a damaged file, or one of a coding without a decoder, raises."""


@dataclass(frozen=True)
class DicomSeries:
    """The files of one acquisition in one folder."""

    files: tuple[Path, ...]
    """By name: a slice each, or a single one with all of them."""
    description: str
    """What the scanner or its user called it; may be empty."""
    study: str
    """The identifier that the series of one visit share."""

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return self.files[0].parent


def is_dicom(path: Path) -> bool:
    """Whether a file begins as DICOM files do."""
    if not path.is_file():
        return False
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def holds_dicom(path: Path) -> bool:
    """Whether this is a DICOM file, or a folder with one at any depth before any scan of another format."""
    if not path.is_dir():
        return is_dicom(path)
    for file in _files_below(path):
        if image_suffix(file):
            return False
        if is_dicom(file):
            return True
    return False


def find_series(path: Path) -> list[DicomSeries]:
    """The volumes below a folder, by their folders and numbers, or the one that a file is of.

    What is no volume (scouts, reports, segmentations) is left out, and so are files of other formats.

    Raises:
        UserError: pydicom is missing, or a file is damaged.
    """
    files = _files_below(path) if path.is_dir() else sorted(path.parent.iterdir())
    found: dict[tuple[Path, str], list[tuple[Path, Dataset]]] = {}
    for file in files:
        head = _head(file)
        if head is not None:
            found.setdefault((file.parent, head.SeriesInstanceUID), []).append((file, head))
    if not path.is_dir():
        found = {key: parts for key, parts in found.items() if path in [file for file, _ in parts]}
    whole = {key: parts for key, parts in found.items() if len(parts) > 1 or _frames(parts[0][1]) > 1}
    keys = sorted(whole, key=lambda key: (key[0], int(whole[key][0][1].get("SeriesNumber") or 0), key[1]))
    return [
        DicomSeries(
            files=tuple(file for file, _ in whole[key]),
            description=str(whole[key][0][1].get("SeriesDescription", "")).strip(),
            study=str(whole[key][0][1].get("StudyInstanceUID", "")),
        )
        for key in keys
    ]


def only_series(path: Path) -> DicomSeries:
    """The only volume below a folder, or the one that a file is of.

    Raises:
        UserError: there is none, or there are several; or the reasons of `find_series`.
    """
    found = find_series(path)
    if len(found) == 1:
        return found[0]
    names = ", ".join(each.description or each.files[0].name for each in found)
    raise UserError(
        path,
        expected="one DICOM series of at least two slices",
        found=f"{len(found)}: {names}" if found else "none",
        remedy="give a file of the one that is meant" if found else None,
    )


def read_series(
    series: DicomSeries,
) -> tuple[Float32[np.ndarray, "X Y Z"], Float[np.ndarray, "4 4"]]:
    """The intensities of a series (of a CT in Hounsfield units), and the affine from voxels to mm in RAS.

    Raises:
        UserError: a file is damaged, has no decoder, or the slices are no volume: one is missing, or some
            differ in size or direction.
    """
    import highdicom

    # what a slice says of real-world values (SUV of a PET) differs between vendors; rescaling does not
    options: dict[str, Any] = {"dtype": np.float32, "apply_real_world_transform": False}
    datasets = [_read(file) for file in series.files]
    try:
        if len(datasets) == 1:
            volume = highdicom.Image.from_dataset(datasets[0], copy=False).get_volume(**options)
        else:
            volume = highdicom.get_volume_from_series(datasets, **options)
    except (*_BROKEN, MemoryError) as error:
        raise UserError(
            series.files[0],
            expected=f"{len(series.files)} files of parallel slices at equal distances",
            found=reason_of(error),
            remedy=f"export the series again, whole, or {conversion(series.files[0], 'DICOM')}",
        ) from error
    voxels = np.ascontiguousarray(volume.array.transpose(2, 1, 0))
    affine = volume.affine.astype(float)
    return voxels, _LPS @ affine[:, [2, 1, 0, 3]]


def read_headers(series: DicomSeries) -> "list[Dataset]":
    """All that the files of a series say but their voxels.

    Raises:
        UserError: a file is damaged.
    """
    return [_read(file, stop_before_pixels=True) for file in series.files]


def stated_series_bytes(series: DicomSeries) -> int:
    """Bytes of a series' voxels as `read_series` returns them, of which nothing is read yet.

    Raises:
        UserError: a file is damaged.
    """
    sizes = [
        _frames(head) * int(head.get("Rows") or 0) * int(head.get("Columns") or 0)
        for head in read_headers(series)
    ]
    return sum(sizes) * np.dtype(np.float32).itemsize


def _read(file: Path, **options: Any) -> "Dataset":
    try:
        import highdicom  # noqa: F401  # and with it the codecs
        from pydicom import dcmread
    except ImportError as error:
        raise UserError(
            file,
            expected="the package highdicom, to read DICOM",
            found="none",
            remedy=f"install ossnet[dicom], or {conversion(file, 'DICOM')}",
        ) from error
    try:
        return dcmread(file, **options)
    except _BROKEN as error:
        found, remedy = reason_of(error), "export it again"
        raise UserError(file, expected="a whole DICOM file", found=found, remedy=remedy) from error


def _head(file: Path) -> "Dataset | None":
    """What tells a file's series; None where it is no slice of a scan."""
    if not file.is_file():
        return None
    state = file.stat()
    return _head_of(file, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=1 << 14)
def _head_of(file: Path, _size: int, _time_ns: int) -> "Dataset | None":
    """Read once while the file stays as it is: a scan is looked up by each step of its prediction."""
    if not is_dicom(file):
        return None
    head = _read(file, specific_tags=list(_TAGS), stop_before_pixels=True)
    return head if _is_volume(head) else None


def _is_volume(head: "Dataset") -> bool:
    """Whether a file is a slice, or several, of a scan that says where it is."""
    placed = "ImageOrientationPatient" in head or "SharedFunctionalGroupsSequence" in head
    return "SeriesInstanceUID" in head and placed and "SegmentSequence" not in head


def _frames(head: "Dataset") -> int:
    return int(head.get("NumberOfFrames") or 1)


def _files_below(folder: Path) -> Iterator[Path]:
    """The visible files of a folder and of those in it, by name."""
    for inner, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(inner, name) for name in sorted(names) if not name.startswith("."))
