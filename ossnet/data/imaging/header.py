"""What a NIfTI header means: which files it is spread over, where its voxels begin and where they are.

Of a header's two forms only the one in use is checked: the sform where its code is above 0, else the qform.
"""

from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ossnet.data.imaging.formats import conversion, foreign_format
from ossnet.data.imaging.geometry import MM_PER_UNIT, Geometry, Matrix, Shape
from ossnet.data.imaging.itk_formats import itk_format, read_itk_header
from ossnet.data.imaging.streams import BROKEN, check_regular, open_stream, reason_of
from ossnet.errors import UserError

_PAIR = {".hdr": ".img", ".img": ".hdr"}
_HEADER_SIZE = 540
"""Bytes of the longer of the two versions' headers."""


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that an image is made of: one, or of a pair the header (`.hdr`) and the voxels (`.img`).

    MetaImage and NRRD headers (`.mhd`, `.nhdr`) name the file of their voxels.

    Raises:
        UserError: one of them is missing, or no regular file.
    """
    check_regular(path)
    if itk_format(path):
        return tuple(dict.fromkeys((path, read_itk_header(path).voxels)))
    zipped = ".gz" if path.name.lower().endswith(".gz") else ""
    whole = path.with_name(path.name[: len(path.name) - len(zipped)])
    other = _PAIR.get(whole.suffix.lower())
    if other is None:
        return (path,)
    if whole.suffix.isupper():
        other = other.upper()
    twins = [whole.with_suffix(other + end) for end in dict.fromkeys((zipped, "", ".gz"))]
    twin = next((each for each in twins if each.is_file()), None)
    if twin is None:
        raise UserError(
            path,
            expected=f"{twins[0].name} beside it",
            found="one half of a pair",
            remedy="put the other half there",
        )
    return (path, twin) if whole.suffix.lower() == ".hdr" else (twin, path)


def load_header(path: Path) -> Any:
    """The header of either version, from the first bytes of its file.

    Raises:
        UserError: another format, which is named, or a header that cannot be.
    """
    from nibabel.spatialimages import HeaderDataError

    try:
        with open_stream(path) as stream:
            head = stream.read(_HEADER_SIZE)
    except PermissionError as error:
        raise UserError(
            path,
            expected="a file that may be read",
            found="no permission",
            remedy="give yourself permission to read it",
        ) from error
    except BROKEN as error:
        raise _not_nifti(path, reason_of(error)) from error
    kind = _kind_of(path, head)
    if kind is None:
        name = foreign_format(path, head)
        if name is None:
            raise _not_nifti(path, "no NIfTI header at its beginning")
        raise UserError(path, expected="a NIfTI file", found=name, remedy=conversion(path, name))
    try:
        header = kind(head[: kind.template_dtype.itemsize])
        header.get_data_dtype()
        header.get_data_shape()
        return header
    except (*BROKEN, HeaderDataError, KeyError) as error:
        raise _bad_header(path, reason_of(error)) from error


def stated_bytes(path: Path) -> int:
    """Bytes of an image's voxels as its header states them, of which nothing is read yet.

    Raises:
        UserError: another format, or a header that cannot be.
    """
    if itk_format(path):
        header = read_itk_header(path)
        return prod(header.shape) * header.channels * header.dtype.itemsize
    head = load_header(files_of(path)[0])
    return prod(int(size) for size in head.get_data_shape()) * int(head.get_data_dtype().itemsize)


def scaling_and_offset(path: Path, header: Any, *, single: bool) -> tuple[float, float, int]:
    """The slope and intercept of the intensities, and the bytes before the first voxel.

    Args:
        single: whether header and voxels are one file: an offset of 0 then means right behind the header.

    Raises:
        UserError: numbers that cannot be.
    """
    from nibabel.spatialimages import HeaderDataError

    try:
        slope, intercept = header.get_slope_inter()
        offset = int(header.get_data_offset())
    except (ValueError, OverflowError, HeaderDataError) as error:
        raise _bad_header(path, reason_of(error)) from error
    if single and offset == 0:
        offset = header.single_vox_offset
    return 1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept), offset


def read_geometry(path: Path, header: Any, shape: Shape) -> Geometry:
    """Where the voxels are, in mm whatever the header's unit.

    Raises:
        UserError: the form in use is no rotation or cannot be inverted.
    """
    units = _units(header)
    to_mm = MM_PER_UNIT.get(units[0], 1.0)
    sform, sform_code = header.get_sform(coded=True)
    qform, qform_code = _qform(path, header, in_use=not sform_code)
    affine = next((form for form in (sform, qform) if form is not None), header.get_base_affine())
    _check_affine(path, affine)
    zooms = np.array([float(size) for size in header.get_zooms()[:3]])
    if not (np.isfinite(zooms).all() and (zooms > 0).all()):
        zooms = np.linalg.norm(affine[:3, :3], axis=0)
    first, second, third = (zooms * to_mm).tolist()
    geometry = Geometry(
        shape=shape,
        affine=_matrix(affine, to_mm),
        sform=None if sform is None else _matrix(sform, to_mm),
        sform_code=int(sform_code),
        qform=None if qform is None else _matrix(qform, to_mm),
        qform_code=int(qform_code),
        zooms=(first, second, third),
        units=units,
        working_shape=(1, 1, 1),
    )
    return geometry.resampled_to(None)


def geometry_of(path: Path, affine: np.ndarray, shape: Shape, *, placed: bool) -> Geometry:
    """The geometry of a file whose header has one affine, in mm.

    Args:
        placed: whether it says which side is left.

    Raises:
        UserError: the affine cannot be inverted.
    """
    _check_affine(path, affine)
    first, second, third = np.linalg.norm(affine[:3, :3], axis=0).tolist()
    geometry = Geometry(
        shape=shape,
        affine=_matrix(affine, 1.0),
        sform=_matrix(affine, 1.0) if placed else None,
        sform_code=int(placed),
        qform=None,
        qform_code=0,
        zooms=(first, second, third),
        units=("mm", "sec"),
        working_shape=(1, 1, 1),
    )
    return geometry.resampled_to(None)


def _check_affine(path: Path, affine: np.ndarray) -> None:
    if not _spans_space(affine):
        raise UserError(
            path,
            expected="an affine that can be inverted",
            found=str(affine[:3].tolist()),
            remedy="set sform and qform anew",
        )


def _kind_of(path: Path, head: bytes) -> Any:
    """The nibabel class of the header that these bytes are; None where they are none."""
    import nibabel
    from nibabel.nifti2 import Nifti2PairHeader

    pair = ".hdr" in path.suffixes[-2:] or ".HDR" in path.suffixes[-2:]
    if len(head) >= 348 and head[344:348] in (b"n+1\0", b"ni1\0"):
        return nibabel.nifti1.Nifti1PairHeader if pair else nibabel.nifti1.Nifti1Header
    if len(head) >= _HEADER_SIZE and head[4:8] in (b"n+2\0", b"ni2\0"):
        return Nifti2PairHeader if pair else nibabel.nifti2.Nifti2Header
    return None


def _qform(path: Path, header: Any, *, in_use: bool) -> tuple[np.ndarray | None, int]:
    """The qform and its code; no qform where it is broken and not in use."""
    code = int(header["qform_code"])
    try:
        qform, _ = header.get_qform(coded=True)
    except ValueError as error:
        if not in_use:
            return None, code
        raise UserError(
            path, expected="a rotation as qform", found=f"none ({reason_of(error)})", remedy="set it anew"
        ) from error
    return (None if qform is not None and not in_use and not _spans_space(qform) else qform), code


def _units(header: Any) -> tuple[str, str]:
    try:
        space, time = header.get_xyzt_units()
    except KeyError:  # a number that means nothing
        return "unknown", "unknown"
    return str(space), str(time)


def _spans_space(affine: np.ndarray) -> bool:
    """Whether all numbers are finite and the voxel axes lie in no plane."""
    if not np.isfinite(affine).all():
        return False
    volume = np.prod(np.linalg.norm(affine[:3, :3], axis=0))
    return bool(abs(np.linalg.det(affine[:3, :3])) > 1e-6 * volume)


def _matrix(array: np.ndarray, to_mm: float) -> Matrix:
    scaled = np.diag([to_mm, to_mm, to_mm, 1.0]) @ array.astype(float)
    return tuple(tuple(row) for row in scaled.tolist())


def _not_nifti(path: Path, reason: str) -> UserError:
    return UserError(
        path,
        expected="a NIfTI file",
        found=f"{path.stat().st_size} bytes that are none ({reason})",
        remedy="copy it again",
    )


def _bad_header(path: Path, reason: str) -> UserError:
    return UserError(
        path,
        expected="a NIfTI file with a valid header",
        found=reason,
        remedy="correct the header or export the scan again",
    )
