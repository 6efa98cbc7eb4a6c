"""NIfTI files in and out, MetaImage and NRRD in; whatever is wrong ends in one line that names the file.

Legend: C channels, X Y Z voxel axes in nibabel order.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from math import prod
from operator import itemgetter
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int32, Integer, Num, Shaped

from ossnet.data.imaging.geometry import (
    STRAIGHT,
    Axes,
    Geometry,
    check_same_grid,
    from_canonical,
    stored_shape,
)
from ossnet.data.imaging.header import (
    files_of,
    geometry_of,
    load_header,
    read_geometry,
    scaling_and_offset,
)
from ossnet.data.imaging.itk_formats import ItkHeader, itk_format, read_itk_header
from ossnet.data.imaging.streams import (
    BROKEN,
    check_end,
    check_holds,
    ends_early,
    fill,
    open_stream,
    reason_of,
)
from ossnet.errors import UserError
from ossnet.output.atomic_write import atomic_path

SLAB = 2 << 20
"""Voxels that are read at once: far fewer than a volume's, yet enough planes to write across them quickly."""


@dataclass(frozen=True)
class NiftiFile:
    """The contents of a file's header, of NIfTI or another format; reading it costs one block of the file."""

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
    voxels: Path
    """The file that holds the voxels: `path` itself, but of a pair."""
    implied_offset: bool = False
    """Whether the header says 0 for `offset`, which some programs take as it stands."""
    axes: Axes = STRAIGHT
    """How the axes that voxels are stored along lie along those of `geometry`."""
    deflated_at: int | None = None
    """Where in `voxels` a zlib or gzip stream begins; None where the file is plain or gzip as a whole."""
    interleaved: bool = False
    """Whether the channels of a voxel lie side by side, where they would else lie one behind the other."""

    @property
    def scaled(self) -> bool:
        """Whether stored values are not the intensities themselves."""
        return (self.slope, self.intercept) != (1.0, 0.0)


def read_header(path: Path) -> NiftiFile:
    """Read and check the header of a NIfTI file, compressed or not whatever its name, or of a pair.

    MetaImage and NRRD files are read too, by their names; for NRRD pynrrd is needed.

    Raises:
        UserError: no such file, no such format, complex or color voxels, not 3-D or 4-D, an affine
            that cannot be inverted, or fewer bytes than the header says.
    """
    if itk_format(path):
        return _from_itk(path, read_itk_header(path))
    files = files_of(path)
    voxels, header = files[-1], load_header(files[0])
    dtype = np.dtype(header.get_data_dtype())
    shape = _trim(tuple(int(size) for size in header.get_data_shape()))
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
    slope, intercept, offset = scaling_and_offset(path, header, single=len(files) == 1)
    check_holds(voxels, offset=offset, size=prod(shape) * dtype.itemsize)
    return NiftiFile(
        path=path,
        geometry=read_geometry(path, header, (shape[0], shape[1], shape[2])),
        channels=shape[3] if len(shape) == 4 else 1,
        dtype=dtype,
        slope=slope,
        intercept=intercept,
        offset=offset,
        voxels=voxels,
        implied_offset=len(files) == 1 and float(header["vox_offset"]) == 0,
    )


def _from_itk(path: Path, header: ItkHeader) -> NiftiFile:
    size = prod(header.shape) * header.channels * header.dtype.itemsize
    deflated_at = header.offset if header.deflated else None
    offset = 0 if header.deflated else header.offset
    check_holds(header.voxels, offset=offset, size=size, deflated_at=deflated_at)
    return NiftiFile(
        path=path,
        geometry=geometry_of(path, header.affine, header.shape, placed=header.placed),
        channels=header.channels,
        dtype=header.dtype,
        slope=1.0,
        intercept=0.0,
        offset=offset,
        voxels=header.voxels,
        deflated_at=deflated_at,
        interleaved=header.interleaved,
    )


def on_grid(file: NiftiFile, like: Geometry, *, other: str) -> NiftiFile:
    """The file as one on the grid of another, which is taken to be exactly there; axes are reordered.

    Args:
        other: what the other file is, for the message.

    Raises:
        UserError: the voxels of the two are not at the same positions.
    """
    found = check_same_grid(file.geometry, like, path=file.path, other=other)
    first, second, third = ((found[axis][0], direction * found[axis][1]) for axis, direction in file.axes)
    return replace(file, geometry=like, axes=(first, second, third))


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
        channel = allocate(file.geometry.canonical_shape, np.dtype(np.float32), file.path)
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
    dtype = file.dtype.newbyteorder("=") if whole else np.dtype(np.int32)
    labels = allocate(geometry.canonical_shape, dtype, file.path)
    grid = from_canonical(labels, geometry)
    for _, first, stored in _read_stored(file):
        slab = stored if whole else _whole_numbers(stored * file.slope + file.intercept, file.path)
        grid[:, :, first : first + slab.shape[2]] = slab
    return labels


def write_nifti(path: Path, array: Num[np.ndarray, "X Y Z"], geometry: Geometry) -> None:
    """Write an array atomically on the file's own grid, in its units, with the header it came with.

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
    to_unit = np.diag([1 / geometry.mm_per_unit] * 3 + [1.0])
    header.set_zooms(np.array(geometry.zooms) / geometry.mm_per_unit)
    header.set_xyzt_units(*geometry.units)
    if geometry.qform is not None:
        header.set_qform(to_unit @ np.array(geometry.qform), geometry.qform_code, strip_shears=True)
    if geometry.sform is not None:
        header.set_sform(to_unit @ np.array(geometry.sform), geometry.sform_code)
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


def _read_stored(file: NiftiFile) -> Iterator[tuple[int, int, Shaped[np.ndarray, "X Y Z"]]]:
    """Stored numbers, otherwise as `read_slabs`; of a file along other axes a whole channel is held."""
    if file.axes == STRAIGHT:
        yield from _read_planes(file)
        return
    from nibabel.orientations import apply_orientation

    shape = stored_shape(file.geometry.shape, file.axes)
    planes = max(1, SLAB // prod(file.geometry.shape[:2]))
    for channel, slabs in groupby(_read_planes(file), key=itemgetter(0)):
        stored = allocate(shape, file.dtype, file.path)
        for _, first, slab in slabs:
            stored[:, :, first : first + slab.shape[2]] = slab
        turned = apply_orientation(stored, np.array(file.axes))
        for first in range(0, turned.shape[2], planes):
            yield channel, first, turned[:, :, first : first + planes]


def _read_planes(file: NiftiFile) -> Iterator[tuple[int, int, Shaped[np.ndarray, "X Y Z"]]]:
    """Stored numbers along the stored axes; a compressed stream is read to its end for its checksum."""
    filled, reason = 0, "it ends early"
    x, y, z = stored_shape(file.geometry.shape, file.axes)
    expected = x * y * z * file.channels * file.dtype.itemsize
    try:
        for channel, first, buffer in _read_bytes(file, (x, y, z)):
            filled += buffer.nbytes
            yield channel, first, buffer
        return
    except UserError:
        raise
    except BROKEN as error:
        reason = reason_of(error)
    raise ends_early(file.path, expected, filled, reason)


def _read_bytes(
    file: NiftiFile, shape: tuple[int, int, int]
) -> Iterator[tuple[int, int, Shaped[np.ndarray, "X Y Z"]]]:
    """As `_read_planes`; where channels are interleaved, all are read for each.

    Raises:
        EOFError: the file ends early; or what is in `BROKEN`.
    """
    x, y, z = shape
    together = file.channels if file.interleaved else 1
    plane, planes = x * y * together * file.dtype.itemsize, max(1, SLAB // (x * y * together))
    passes = range(file.channels) if file.interleaved else (None,)
    for only in passes:
        with open_stream(file.voxels, file.deflated_at) as stream:
            if file.offset:
                stream.seek(file.offset)
            for channel in range(file.channels) if only is None else (only,):
                for first in range(0, z, planes):
                    count = min(planes, z - first)
                    buffer = allocate((count * plane,), np.dtype(np.uint8), file.path)
                    if fill(stream, buffer) < buffer.size:
                        raise EOFError("it ends early")
                    voxels = buffer.view(file.dtype)
                    if only is not None:
                        voxels = np.ascontiguousarray(voxels[only::together])
                    yield channel, first, voxels.reshape((x, y, count), order="F")
            check_end(stream, file.path)


def allocate(shape: tuple[int, ...], dtype: np.dtype, path: Path) -> np.ndarray:
    """Memory for the voxels of a file.

    Raises:
        UserError: there is not so much.
    """
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError) as error:
        raise UserError(
            path,
            expected="voxels that fit in memory",
            found=" x ".join(map(str, shape)),
            remedy="crop or resample the scan, or use a machine with more memory",
        ) from error


def _whole_numbers(values: Shaped[np.ndarray, "X Y Z"], path: Path) -> Int32[np.ndarray, "X Y Z"]:
    labels = np.empty(values.shape, np.int32)
    with np.errstate(invalid="ignore"):
        labels[...] = np.rint(values)
    far = ~(np.abs(values - labels) <= 1e-3)  # catches NaN too; scaling leaves rounding errors
    if far.any():
        raise UserError(
            path,
            expected="whole label values within 32 bits" if _beyond(values) else "whole label values",
            found=f"{values[far][0]:g}",
            remedy="round them or fix the export",
        )
    return labels


def _beyond(values: Shaped[np.ndarray, "X Y Z"]) -> bool:
    """Whether some finite value is no 32-bit number."""
    return bool((np.abs(values[np.isfinite(values)]) > np.iinfo(np.int32).max).any())


def _trim(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Drop trailing axes of length 1 beyond the fourth, and a fourth of length 1."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
