"""From a case's files to what a network sees; the same code prepares stores and predicts new scans.

Legend: C channels, X Y Z voxel axes in nibabel order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Integer, UInt8

from ossnet.data.checks import check_finite, check_same_grid
from ossnet.data.geometry import Geometry
from ossnet.data.nifti import NiftiFile, read_channels, read_header, read_labels
from ossnet.data.normalisation import normalise
from ossnet.data.resampling import linear, nearest
from ossnet.data.task import Task
from ossnet.errors import UserError


@dataclass(frozen=True)
class Scan:
    """An image on the working grid, and the way back to its file's grid."""

    image: Float32[np.ndarray, "C X Y Z"]
    geometry: Geometry


def preprocess(images: Sequence[Path], task: Task) -> Scan:
    """Read a case's modalities, bring them to RAS and the task's spacing, and normalise.

    Args:
        images: one 4-D file with a channel for each modality, or one 3-D file a modality in the task's order.

    Raises:
        UserError: a file is missing, broken, of another grid or of other channels than the task's.
    """
    scan = load_image(read_headers(images, len(task.modalities)), task)
    for channel in scan.image:
        normalise(channel, task.normalisation)
    return scan


def preprocess_label(label: Path, task: Task, *, like: Geometry | None = None) -> UInt8[np.ndarray, "X Y Z"]:
    """Class indices of a label file in RAS and at the task's spacing.

    Args:
        like: the image's geometry, where the label must lie on the same grid.

    Raises:
        UserError: the file is missing, broken, of another grid, or holds values outside the task's labels.
    """
    file = read_header(label)
    if like is not None:
        check_same_grid(file.geometry, like, path=label, other="its image")
        file = replace(file, geometry=like)  # one grid, whatever the headers' rounding
    classes = encode_label(read_labels(file), task, path=label)
    return nearest(classes, file.geometry.at_spacing(task.spacing).working_shape)


def encode_label(
    values: Integer[np.ndarray, "X Y Z"], task: Task, *, path: Path
) -> UInt8[np.ndarray, "X Y Z"]:
    """Class indices of a file's label values.

    Raises:
        UserError: values outside the task's labels; names the file.
    """
    try:
        return task.encode(values)
    except UserError as error:
        msg = f"{path}: {error}; correct the label or declare the value"
        raise UserError(msg) from error


def load_image(files: Sequence[NiftiFile], task: Task) -> Scan:
    """As `preprocess`, before normalisation, from headers that `read_headers` accepted."""
    geometry = files[0].geometry.at_spacing(task.spacing)
    image = np.empty((len(task.modalities), *geometry.working_shape), np.float32)
    targets = iter(image)
    for file in files:
        for values in read_channels(file):
            check_finite(values, path=file.path)
            next(targets)[...] = linear(values, geometry.working_shape)
    return Scan(image, geometry)


def read_headers(images: Sequence[Path], modalities: int) -> list[NiftiFile]:
    """Headers of a case's image files, which together have this many channels on one grid.

    Raises:
        UserError: as `preprocess`, as far as headers tell.
    """
    files = [read_header(path) for path in images]
    channels = sum(file.channels for file in files)
    if channels != modalities or (len(files) > 1 and len(files) != modalities):
        found = ", ".join(f"{file.channels} in {file.path.name}" for file in files)
        msg = (
            f"{images[0]}: expected {modalities} modalities, found {channels} ({found}); give one a modality"
        )
        raise UserError(msg)
    geometry = files[0].geometry
    for file in files[1:]:
        check_same_grid(file.geometry, geometry, path=file.path, other=files[0].path.name)
    return [replace(file, geometry=geometry) for file in files]
