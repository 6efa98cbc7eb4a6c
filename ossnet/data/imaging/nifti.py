"""NIfTI files in and out; whatever is wrong with a file ends in one line that names it.

Legend: C channels, X Y Z voxel axes in nibabel order.
"""

import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float32, Int32, Integer, Num, Shaped, UInt8

from ossnet.data.imaging.geometry import Geometry, Matrix, from_canonical
from ossnet.errors import UserError
from ossnet.output.atomic_write import atomic_path

SUFFIXES = (".nii.gz", ".nii")
SLAB = 2 << 20
"""Voxels that are read at once: far fewer than a volume's, yet enough planes to write across them quickly."""
_CHUNK = 1 << 20
_BROKEN = (OSError, EOFError, ValueError, zlib.error)


@dataclass(frozen=True)
class NiftiFile:
    """The contents of a file's header; reading it costs one block of the file."""

    path: Path
    geometry: Geometry
    channels: int
    """1 for a 3-D file, the length of the fourth axis for a 4-D one."""
    dtype: np.dtype
    """Type of the stored numbers, before the header's scaling."""
    slope: float
    """Factor from stored values to intensities."""
    intercept: float
    """Added to the scaled values."""
    offset: int
    """Bytes before the first voxel, in the uncompressed stream."""

    @property
    def scaled(self) -> bool:
        """Whether stored values are not the intensities themselves."""
        return (self.slope, self.intercept) != (1.0, 0.0)


def stem(path: Path) -> str:
    """File name without `.nii.gz` or `.nii`."""
    return next(
        (path.name.removesuffix(suffix) for suffix in SUFFIXES if path.name.endswith(suffix)), path.stem
    )


def read_header(path: Path) -> NiftiFile:
    """Read and check the header.

    Raises:
        UserError: no such file, not NIfTI, complex or color voxels, not 3-D or 4-D, an affine
            that cannot be inverted.
    """
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    if not path.is_file():
        raise UserError(
            path, expected="a NIfTI file", found="no file", remedy="put it there or remove the case"
        )
    try:
        image = cast(nibabel.Nifti1Image, nibabel.load(path))
        if not isinstance(image, nibabel.Nifti1Image):
            raise _not_nifti(path, f"{type(image).__name__} instead")
    except PermissionError as error:
        raise UserError(
            path,
            expected="a file that may be read",
            found="no permission",
            remedy="give yourself permission to read it",
        ) from error
    except UserError:
        raise
    except (*_BROKEN, ImageFileError, HeaderDataError) as error:
        raise _not_nifti(path, _reason(error)) from error
    proxy: Any = image.dataobj
    dtype, shape = np.dtype(proxy.dtype), _trim(tuple(int(size) for size in proxy.shape))
    if dtype.kind not in "iuf":
        found = "complex" if dtype.kind == "c" else "color" if dtype.fields else str(dtype)
        raise UserError(
            path,
            expected="one real number a voxel",
            found=f"{found} voxels",
            remedy="convert it to a scalar image",
        )
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise UserError(
            path,
            expected="a 3-D image or a 4-D one of channels",
            found=f"shape {shape}",
            remedy="split or convert it",
        )
    return NiftiFile(
        path=path,
        geometry=_geometry(path, image, shape),
        channels=shape[3] if len(shape) == 4 else 1,
        dtype=dtype,
        slope=float(proxy.slope),
        intercept=float(proxy.inter),
        offset=int(proxy.offset),
    )


def read_slabs(file: NiftiFile) -> Iterator[tuple[int, int, Float32[np.ndarray, "X Y Z"]]]:
    """Scaled intensities in the file's own order, some planes of the third axis at a time.

    Yields:
        The channel, the first plane's index and the planes.

    Raises:
        UserError: the file ends early or is damaged, at the latest after the last planes.
    """
    for channel, first, stored in _read_stored(file):
        slab = stored.astype(np.float32)
        if file.scaled:
            slab = slab * np.float32(file.slope) + np.float32(file.intercept)
        yield channel, first, slab


def read_channels(file: NiftiFile) -> Iterator[Float32[np.ndarray, "X Y Z"]]:
    """Scaled intensities of the geometry's box in RAS order, not resampled, channel by channel.

    Raises:
        UserError: the file ends early or is damaged.
    """
    x, y, z = file.geometry.crop_slices
    for _, slabs in groupby(read_slabs(file), key=itemgetter(0)):
        channel = np.empty(file.geometry.canonical_shape, np.float32)
        grid = from_canonical(channel, file.geometry)
        for _, first, slab in slabs:
            start, stop = max(first, z.start), min(first + slab.shape[2], z.stop)
            if start < stop:
                grid[:, :, start - z.start : stop - z.start] = slab[x, y, start - first : stop - first]
        yield channel
        del channel, grid  # before the next one is made


def read_labels(file: NiftiFile) -> Integer[np.ndarray, "X Y Z"]:
    """Label values of the whole file in RAS order, not resampled.

    Raises:
        UserError: the file ends early or is damaged, is 4-D, or holds values that are not whole numbers.
    """
    if file.channels != 1:
        raise UserError(
            file.path,
            expected="a 3-D label",
            found=f"{file.channels} channels",
            remedy="merge them into one",
        )
    whole = file.dtype.kind != "f" and not file.scaled
    geometry = replace(file.geometry, box=None)
    labels = np.empty(geometry.canonical_shape, file.dtype.newbyteorder("=") if whole else np.int32)
    grid = from_canonical(labels, geometry)
    for _, first, stored in _read_stored(file):
        slab = stored if whole else _whole_numbers(stored * file.slope + file.intercept, file.path)
        grid[:, :, first : first + slab.shape[2]] = slab
    return labels


def write_nifti(path: Path, array: Num[np.ndarray, "X Y Z"], geometry: Geometry) -> None:
    """Write an array atomically on the file's own grid, with the header it came with.

    Raises:
        ValueError: the array does not have the shape of the geometry.
    """
    import nibabel

    if array.shape != geometry.shape:
        msg = f"expected the file's shape {geometry.shape}, found {array.shape}"
        raise ValueError(msg)
    header = nibabel.Nifti1Header()
    header.set_data_shape(array.shape)
    header.set_data_dtype(array.dtype)
    header.set_zooms(geometry.zooms)
    header.set_xyzt_units(*geometry.units)
    if geometry.qform is not None:
        header.set_qform(np.array(geometry.qform), geometry.qform_code, strip_shears=True)
    if geometry.sform is not None:
        header.set_sform(np.array(geometry.sform), geometry.sform_code)
    image = nibabel.Nifti1Image(array, header.get_best_affine(), header)
    with atomic_path(path) as aside:
        nibabel.save(image, aside)


def check_finite(channel: Float32[np.ndarray, "X Y Z"], *, path: Path) -> Float32[np.ndarray, "X Y Z"]:
    """The channel itself, unless it has NaN or infinite voxels.

    Raises:
        UserError: with their number.
    """
    count = sum(slab.size - int(np.isfinite(slab).sum()) for slab in channel)
    if count:
        raise not_finite(count, path)
    return channel


def not_finite(count: int, path: Path) -> UserError:
    """The error for a file with so many NaN or infinite voxels."""
    return UserError(
        path,
        expected="finite voxels",
        found=f"{count} that are NaN or infinite",
        remedy="replace them or remove the case",
    )


def _not_nifti(path: Path, reason: str) -> UserError:
    return UserError(
        path,
        expected="a NIfTI file",
        found=f"{path.stat().st_size} bytes that are none ({reason})",
        remedy="copy it again",
    )


def _read_stored(file: NiftiFile) -> Iterator[tuple[int, int, Shaped[np.ndarray, "X Y Z"]]]:
    """Stored numbers, otherwise as `read_slabs`; a compressed stream is read to its end for its checksum."""
    x, y, z = file.geometry.shape
    plane, planes = x * y * file.dtype.itemsize, max(1, SLAB // (x * y))
    expected = plane * z * file.channels
    filled, reason = 0, "it ends early"
    try:
        with _open(file.path) as stream:
            stream.seek(file.offset)
            for channel in range(file.channels):
                for first in range(0, z, planes):
                    count = min(planes, z - first)
                    buffer = np.empty(count * plane, np.uint8)
                    read = _fill(stream, buffer)
                    filled += read
                    if read < buffer.size:
                        raise EOFError(reason)
                    yield channel, first, buffer.view(file.dtype).reshape((x, y, count), order="F")
            stream.read()
            return
    except _BROKEN as error:
        reason = _reason(error)
    raise UserError(
        file.path,
        expected=f"{expected} bytes of voxels",
        found=f"{filled} readable ones ({reason})",
        remedy="copy the file again, it is truncated or damaged",
    )


def _fill(stream: io.BufferedIOBase, buffer: UInt8[np.ndarray, " N"]) -> int:
    """Bytes read; fewer than the buffer has at the end of the stream."""
    filled = 0
    while filled < buffer.size and (count := stream.readinto(buffer[filled : filled + _CHUNK].data)):
        filled += count
    return filled


def _whole_numbers(values: Shaped[np.ndarray, "X Y Z"], path: Path) -> Int32[np.ndarray, "X Y Z"]:
    labels = np.empty(values.shape, np.int32)
    with np.errstate(invalid="ignore"):
        labels[...] = np.rint(values)
    far = ~(np.abs(values - labels) <= 1e-3)  # catches NaN too; scaling leaves rounding errors
    if far.any():
        raise UserError(
            path,
            expected="whole label values",
            found=f"{values[far][0]:g}",
            remedy="round them or fix the export",
        )
    return labels


def _open(path: Path) -> io.BufferedIOBase:
    with path.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    return gzip.GzipFile(path, "rb") if compressed else path.open("rb")


def _reason(error: BaseException) -> str:
    return str(error).replace("\n", " ").rstrip(".") or type(error).__name__


def _trim(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Drop trailing axes of length 1 beyond the fourth, and a fourth of length 1."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _geometry(path: Path, image: Any, shape: tuple[int, ...]) -> Geometry:
    header, affine = image.header, np.asarray(image.affine, np.float64)
    if not np.isfinite(affine).all() or _is_flat(affine):
        raise UserError(
            path,
            expected="an affine that can be inverted",
            found=str(affine[:3].tolist()),
            remedy="set sform and qform anew",
        )
    sform, sform_code = header.get_sform(coded=True)
    try:
        qform, qform_code = header.get_qform(coded=True)
    except ValueError as error:
        raise UserError(
            path, expected="a rotation as qform", found=f"none ({_reason(error)})", remedy="set it anew"
        ) from error
    first, second, third = (float(size) for size in header.get_zooms()[:3])
    space, time = header.get_xyzt_units()
    geometry = Geometry(
        shape=(shape[0], shape[1], shape[2]),
        affine=_matrix(affine),
        sform=None if sform is None else _matrix(sform),
        sform_code=int(sform_code),
        qform=None if qform is None else _matrix(qform),
        qform_code=int(qform_code),
        zooms=(first, second, third),
        units=(space, time),
        working_shape=(1, 1, 1),
    )
    return geometry.resampled_to(None)


def _is_flat(affine: np.ndarray) -> bool:
    """Whether the voxel axes do not span space."""
    volume = np.prod(np.linalg.norm(affine[:3, :3], axis=0))
    return bool(abs(np.linalg.det(affine[:3, :3])) <= 1e-6 * volume)


def _matrix(array: np.ndarray) -> Matrix:
    return tuple(tuple(row) for row in array.astype(float).tolist())
