"""Every case's headers, read once, what they say of it, and a digest of its files; no voxel is read."""

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path

from ossnet.data.imaging.geometry import STRAIGHT
from ossnet.data.imaging.header import files_of
from ossnet.data.imaging.nifti import SLAB, NiftiFile, on_grid, read_header
from ossnet.data.imaging.preprocessing import on_one_grid, working_coarse_axis
from ossnet.data.imaging.resampling import interpolation_memory
from ossnet.data.labels.task import Task
from ossnet.data.layouts import Case, Source
from ossnet.errors import UserError

PROCESS_MEMORY = 300 << 20
"""Bytes a process takes before it reads a voxel: the libraries that it imports."""
_COUNTS_MEMORY = 4 << 20


@dataclass(frozen=True)
class CaseInfo:
    """A case and what is known of it without decompressing its voxels."""

    case: Case
    digest: str
    """Digest of the files' bytes."""
    images: tuple[NiftiFile, ...] = ()
    """Headers of the image files, on their common grid; empty where the case cannot be used."""
    label: NiftiFile | None = None
    """Header of the label; None where the case cannot be used."""
    memory: int = 0
    """Bytes of RAM that preparing it takes at most."""
    error: str | None = None
    """Why the case cannot be used; None where nothing is known against it."""

    @property
    def id(self) -> str:
        """The case's id."""
        return self.case.id

    @property
    def files(self) -> list[Path]:
        """All files of the images and the label, as far as their headers were read."""
        headers = [*self.images, *([self.label] if self.label else [])]
        return list(dict.fromkeys(path for header in headers for path in (header.path, header.voxels)))

    def moved(self, place: Callable[[Path], Path]) -> "CaseInfo":
        """The same where its files lie elsewhere.

        Args:
            place: gives the place of a file.
        """

        def move(file: NiftiFile) -> NiftiFile:
            return replace(file, path=place(file.path), voxels=place(file.voxels))

        label = None if self.label is None else move(self.label)
        return replace(self, images=tuple(map(move, self.images)), label=label)

    @property
    def voxel_bytes(self) -> int:
        """Bytes of the uncompressed voxels of all its files."""
        files = [*self.images, *([self.label] if self.label else [])]
        return sum(prod(file.geometry.shape) * file.channels * file.dtype.itemsize for file in files)


def survey_cases(source: Source, task: Task) -> dict[str, CaseInfo]:
    """Read the headers of every case and hash its files, several cases at once; by case id."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        infos = list(pool.map(partial(_survey, task=task), source.cases))
    return {info.id: info for info in infos}


def missing_label(case: Case) -> UserError:
    """The error for a case without a label."""
    return UserError(
        case.images[0],
        expected=f"a label for the case {case.id}",
        found="none",
        remedy="add it or remove the case",
    )


def digest_of(*values: object) -> str:
    """SHA-256 of JSON-able values."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _survey(case: Case, *, task: Task) -> CaseInfo:
    files = [*case.images, *([case.label] if case.label else [])]
    digest = digest_of([_digest_file(path) for path in files])
    try:
        if case.label is None:
            raise missing_label(case)
        images = on_one_grid([read_header(path) for path in case.images], len(task.modalities))
        label = on_grid(read_header(case.label), images[0].geometry, other="its image")
    except UserError as error:
        return CaseInfo(case, digest, error=str(error))
    return CaseInfo(case, digest, tuple(images), label, _preparation_memory(images, label, task))


def _preparation_memory(images: list[NiftiFile], label: NiftiFile, task: Task) -> int:
    """Bytes at the worst moment of `make_case`; what cropping spares is not known yet."""
    geometry = label.geometry.resampled_to(task.spacing)
    before, after = geometry.canonical_shape, geometry.working_shape
    voxels, working, slab = prod(before), prod(after), min(SLAB, prod(before))
    # A label's numbers and classes, with cropping also the part that is kept; slabs are rounded in float64.
    rounded = label.dtype.kind == "f" or label.scaled
    numbers = 4 if rounded else label.dtype.itemsize
    reading_label = (numbers + 1 + (task.crop is not None)) * voxels + working
    reading_label += slab * (label.dtype.itemsize + 40 * rounded)
    # All channels as stored, the label, one channel and what resampling makes of it, a slab and its scaling.
    image = 2 * len(task.modalities) * working + working + 4 * voxels
    image += interpolation_memory(before, after, coarse=working_coarse_axis(geometry, task))
    image += slab * (max(file.dtype.itemsize for file in images) + 8)
    # A file that is stored along other axes is held whole.
    turned = [file.dtype.itemsize for file in images if file.axes != STRAIGHT]
    image += max(turned, default=0) * voxels
    reading_label += (label.axes != STRAIGHT) * label.dtype.itemsize * voxels
    # What statistics and interpolation take, some of it for each plane.
    other = _COUNTS_MEMORY + 64 * max(working // min(after), voxels // min(before))
    return PROCESS_MEMORY + max(reading_label, image) + other


def _digest_file(path: Path) -> str:
    """Digest of an image's bytes; only regular files are opened."""
    try:
        digests = []
        for part in files_of(path):
            with part.open("rb") as stream:
                digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    except (OSError, UserError):
        return "unreadable"
    return digests[0] if len(digests) == 1 else digest_of(digests)
