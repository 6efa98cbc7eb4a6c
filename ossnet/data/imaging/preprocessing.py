"""Preprocessing of a case's files for a network; the same code prepares stores and predicts new scans.

Legend: C channels, X Y Z voxel axes in nibabel order.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, Integer, UInt8

from ossnet.data.imaging.geometry import Geometry, from_canonical, to_canonical
from ossnet.data.imaging.nifti import (
    NiftiFile,
    check_finite,
    on_grid,
    read_channels,
    read_header,
    read_labels,
    read_slabs,
)
from ossnet.data.imaging.normalization import foreground, normalize
from ossnet.data.imaging.resampling import coarse_axis, interpolate, interpolate_labels, keep_zeros
from ossnet.data.labels.task import Normalization, Task
from ossnet.errors import UserError


@dataclass(frozen=True)
class Scan:
    """An image on the working grid, and the way back to its file's grid."""

    image: Float32[np.ndarray, "C X Y Z"]
    geometry: Geometry
    means: tuple[float, ...] = ()
    """Of each channel, the mean of the voxels that are not 0 before normalization; none of arrays."""


def preprocess(images: Sequence[Path], task: Task) -> Scan:
    """Read a case's modalities, bring them to RAS and the task's spacing, and normalize.

    Args:
        images: one 4-D file with a channel for each modality, or one 3-D file a modality in the task's order.

    Raises:
        UserError: a file is missing, broken, of another grid or of other channels than the task's.
    """
    files = on_working_grid(on_one_grid([read_header(path) for path in images], len(task.modalities)), task)
    geometry = files[0].geometry
    image, means = np.empty((len(task.modalities), *geometry.working_shape), np.float32), list[float]()
    for target, channel, kind in zip(image, load_channels(files, task), task.normalizations, strict=True):
        target[...] = channel
        means.append(_mean(target))
        normalize(target, kind)
    return Scan(image, geometry, tuple(means))


def _mean(channel: Float32[np.ndarray, "X Y Z"]) -> float:
    """The mean of the voxels that are not 0; 0 where there are none."""
    return float(channel.sum(dtype=np.float64)) / max(int(np.count_nonzero(channel)), 1)


def preprocess_label(label: Path, task: Task, *, like: Geometry | None = None) -> UInt8[np.ndarray, "X Y Z"]:
    """Label indices of a file in RAS and at the task's spacing.

    Args:
        like: the image's geometry, where the label must lie on the same grid.

    Raises:
        UserError: the file is missing, broken, of another grid, holds values outside the task's labels, or
            has some where the image is cut off.
    """
    return read_label(read_header(label), task, like=like)


def read_label(file: NiftiFile, task: Task, *, like: Geometry | None = None) -> UInt8[np.ndarray, "X Y Z"]:
    """Label indices of a file whose header is known; otherwise as `preprocess_label`."""
    path = file.path
    if like is not None:
        file = on_grid(file, like, other="its image")
    classes = encode_label(read_labels(file), task, path=path)
    geometry = file.geometry
    if geometry.box is not None:
        classes = _crop_label(classes, geometry, path)
    shape = geometry.resampled_to(task.spacing).working_shape
    return interpolate_labels(classes, shape, coarse=working_coarse_axis(geometry, task))


def encode_label(
    values: Integer[np.ndarray, "X Y Z"], task: Task, *, path: Path
) -> UInt8[np.ndarray, "X Y Z"]:
    """Label indices of a file's label values.

    Raises:
        UserError: values outside the task's labels; names the file.
    """
    try:
        return task.encode(values)
    except UserError as error:
        raise UserError(path, expected=error.expected, found=error.found, remedy=error.remedy) from error


def on_working_grid(files: Sequence[NiftiFile], task: Task) -> list[NiftiFile]:
    """The files with the working grid that the task describes; to crop, their voxels are read."""
    geometry = files[0].geometry
    if task.crop is not None:
        kinds = iter(task.normalizations)
        geometry = crop_geometry(_foregrounds(files, kinds), geometry, task.crop)
    geometry = geometry.resampled_to(task.spacing)
    return [replace(file, geometry=geometry) for file in files]


def crop_geometry(
    foregrounds: Iterable[tuple[int, Bool[np.ndarray, "X Y Z"]]], geometry: Geometry, margin: float
) -> Geometry:
    """A geometry cut to the foreground of all channels together; without any foreground it stays whole.

    Args:
        foregrounds: some planes of the file's third axis, with the first one's index, for each channel.
        margin: mm to keep around the foreground.
    """
    seen = tuple(np.zeros(size, bool) for size in geometry.shape)
    for first, inside in foregrounds:
        seen[0][:] |= inside.any(axis=(1, 2))
        seen[1][:] |= inside.any(axis=(0, 2))
        seen[2][first : first + inside.shape[2]] |= inside.any(axis=(0, 1))
    if not seen[0].any():
        return geometry
    x, y, z = ((int(np.flatnonzero(axis)[0]), int(np.flatnonzero(axis)[-1]) + 1) for axis in seen)
    return geometry.cropped_to((x, y, z), margin)


def load_channels(files: Sequence[NiftiFile], task: Task) -> Iterator[Float32[np.ndarray, "X Y Z"]]:
    """Channels on the working grid before normalization, one after the other, from `on_working_grid`."""
    kinds = iter(task.normalizations)
    for file in files:
        channels = read_channels(file)
        for _ in range(file.channels):  # no name keeps a channel alive while the next one is read
            yield to_spacing(check_finite(next(channels), path=file.path), file.geometry, next(kinds), task)


def to_spacing(
    channel: Float32[np.ndarray, "X Y Z"], geometry: Geometry, kind: Normalization, task: Task
) -> Float32[np.ndarray, "x y z"]:
    """A channel in RAS order on the working grid."""
    if channel.shape == geometry.working_shape:
        return channel
    image = interpolate(
        channel, geometry.working_shape, kind=task.interpolation, coarse=working_coarse_axis(geometry, task)
    )
    if kind == "zscore-foreground":
        keep_zeros(image, channel)
    return image


def working_coarse_axis(geometry: Geometry, task: Task) -> int | None:
    """The through-plane axis of the scan or else of the grid it is brought to."""
    own = coarse_axis(geometry.canonical_spacing)
    return coarse_axis(task.spacing) if own is None and task.spacing is not None else own


def on_one_grid(files: Sequence[NiftiFile], modalities: int) -> list[NiftiFile]:
    """A case's image files with the geometry of the first; together they have this many channels on one grid.

    Raises:
        UserError: other channels, or files whose grids differ.
    """
    channels = sum(file.channels for file in files)
    if channels != modalities or (len(files) > 1 and len(files) != modalities):
        counts = ", ".join(f"{file.channels} in {file.path.name}" for file in files)
        raise UserError(
            files[0].path,
            expected=f"{modalities} modalities",
            found=f"{channels} ({counts})",
            remedy="give one a modality",
        )
    geometry = files[0].geometry
    return [files[0], *(on_grid(file, geometry, other=files[0].path.name) for file in files[1:])]


def _foregrounds(
    files: Sequence[NiftiFile], kinds: Iterator[Normalization]
) -> Iterator[tuple[int, Bool[np.ndarray, "X Y Z"]]]:
    for file in files:
        for _, slabs in groupby(read_slabs(file), key=itemgetter(0)):
            kind = next(kinds)
            for _, first, slab in slabs:
                yield first, foreground(slab, kind)


def _crop_label(
    classes: UInt8[np.ndarray, "X Y Z"], geometry: Geometry, path: Path
) -> UInt8[np.ndarray, "x y z"]:
    """The part of a whole label that the geometry keeps, which must be all that is labeled."""
    whole = from_canonical(classes, replace(geometry, box=None))
    cropped = to_canonical(whole[geometry.crop_slices], geometry)
    lost = int(np.count_nonzero(classes)) - int(np.count_nonzero(cropped))
    if lost:
        raise UserError(
            path,
            expected="labels within the image's foreground",
            found=f"{lost} voxels beyond the margin",
            remedy="give a larger --crop, or leave it out",
        )
    return np.ascontiguousarray(cropped)
