"""One case inspected on its own: every file's header and voxels, and whether they belong together.

Every fault of every file is reported, where preparing stops at the first.

Legend: X Y Z voxel axes in nibabel order.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from ossnet.data.imaging.geometry import Geometry
from ossnet.data.imaging.nifti import NiftiFile, not_finite, on_grid, read_header, read_labels, read_slabs
from ossnet.data.imaging.preprocessing import encode_label, on_one_grid
from ossnet.data.labels.task import BACKGROUND, Task
from ossnet.data.layouts import Case, Source
from ossnet.data.prepare.survey import missing_label
from ossnet.data.verification.issues import CaseSummary, FileSummary, Issue
from ossnet.data.verification.plausibility import ImageStats, offset_checks, plausibility_checks
from ossnet.data.verification.voxels import (
    ChannelStats,
    SliceCollector,
    count_fractions,
    count_values,
)
from ossnet.errors import UserError
from ossnet.output.views.slices import Plane, draw, fullest_planes, middle_planes

Values = Integer[np.ndarray, "X Y Z"]

_MAX_DRAWN_LABELS = 16


@dataclass(frozen=True)
class Inspection:
    """The facts of a single case, and its faults."""

    view: CaseSummary
    findings: tuple[Issue, ...]


def first_header(case: Case) -> NiftiFile | UserError:
    """The header of a case's first image, or why there is none."""
    try:
        return read_header(case.images[0])
    except UserError as error:
        return error


def inspect(case: Case, source: Source, first: NiftiFile | UserError) -> Inspection:
    """Read all files of a case; whatever is wrong with it becomes findings.

    Args:
        first: what `first_header` returned for the case.
    """
    inspector = _CaseInspector(case, source, first)
    try:
        inspector.run()
    except Exception as error:  # as preparing does: one strange file must not hide what the others are
        inspector.add_error(
            UserError(
                case.images[0],
                expected="a case that can be read",
                found=f"{type(error).__name__}: {error}".splitlines()[0],
                remedy="check its files",
            )
        )
    return Inspection(inspector.view, tuple(inspector.findings))


class _CaseInspector:
    """Collects the facts and faults of a case."""

    def __init__(self, case: Case, source: Source, first: NiftiFile | UserError) -> None:
        self.findings: list[Issue] = []
        self._case, self._source, self._first = case, source, first
        self._images = {path: FileSummary(path) for path in case.images}
        self._label = FileSummary(case.label) if case.label else None
        self._files: list[NiftiFile] = []
        self._voxels: dict[str, int] = {}
        self._picture: str | None = None
        self._drawn = ""  # the modality in the picture

    @property
    def view(self) -> CaseSummary:
        images = tuple(self._images.values())
        case = self._case
        return CaseSummary(case.id, case.group, images, self._label, self._voxels, self._picture, self._drawn)

    def add_error(self, error: UserError) -> None:
        self.findings.append(Issue.error(error, case=self._case.id))

    def run(self) -> None:
        """Headers, then the label, then the images, then what only a case without error can show."""
        read = {path: self._header(path) for path in self._images}
        headers = [file for file in map(read.get, self._case.images) if file is not None]
        together = self._on_one_grid(headers)
        values = self._read_label(together[0].geometry if together else None)
        usable = values if not self.findings else None
        contents = ImageStats([], None if usable is None else np.zeros(headers[0].geometry.shape, bool))
        for file in together or headers:
            self._read_image(file, values, contents)
        if usable is not None and not self.findings:
            self.findings += plausibility_checks(self._case, self._source, contents, usable)
        self.findings += offset_checks(self._case, self._files)

    def _header(self, path: Path) -> NiftiFile | None:
        try:
            file = self._read_header(path)
        except UserError as error:
            self.add_error(error)
            return None
        self._files.append(file)
        self._images[path] = _file_summary(file)
        return file

    def _read_header(self, path: Path) -> NiftiFile:
        if path != self._case.images[0]:
            return read_header(path)
        if isinstance(self._first, UserError):
            raise self._first
        return self._first

    def _on_one_grid(self, headers: Sequence[NiftiFile]) -> list[NiftiFile]:
        """The image files on their common grid; none if they do not make a case."""
        if len(headers) < len(self._case.images):
            return []
        try:
            return on_one_grid(headers, len(self._source.modalities))
        except UserError as error:
            self.add_error(error)
            return []

    def _read_label(self, like: Geometry | None) -> Values | None:
        """Values in RAS order, declared or not; None where there are no whole ones."""
        if self._case.label is None:
            self.add_error(missing_label(self._case))
            return None
        try:
            file = read_header(self._case.label)
        except UserError as error:
            self.add_error(error)
            return None
        self._files.append(file)
        self._label = _file_summary(file)
        if like is not None:
            try:
                file = on_grid(file, like, other="its image")
            except UserError as error:
                self.add_error(error)
                if prod(file.geometry.shape) > prod(like.shape):
                    return None  # it is none of this image, and may be made to fill the memory
        return self._read_values(file)

    def _read_values(self, file: NiftiFile) -> Values | None:
        try:
            values = read_labels(file)
        except UserError as error:
            self.add_error(error)
            self._voxels = _fractions(file)
            return None
        channel = ChannelStats(values.shape)
        for slab in values:
            channel.add(slab.astype(np.int64)[None])
        self._label = _with_voxels(self._label or _file_summary(file), [channel])
        self._voxels = count_values(values)
        try:
            self._check_declared(values, file.path)
        except UserError as error:
            self.add_error(error)
        return values

    def _check_declared(self, values: Values, path: Path) -> None:
        """Reject values outside the declared labels, also where there are more than can be distinguished."""
        labels = self._source.labels
        if labels:
            task = Task(self._source.modalities, {}).reading_as_one(labels)
        else:
            task = Task(self._source.modalities, labels)
        encode_label(values, task, path=path)

    def _read_image(self, file: NiftiFile, values: Values | None, contents: ImageStats) -> None:
        """Read an image file; the first one that can be read is drawn."""
        shape, planes = file.geometry.canonical_shape, list[SliceCollector]()
        drawn = values if values is not None and values.shape == shape else None
        indices = middle_planes(shape) if drawn is None else fullest_planes(drawn)
        if self._picture is None:
            planes = [SliceCollector(file.geometry, axis, indices[axis]) for axis in (2, 1, 0)]
        try:
            channels = contents.read(file, planes)
        except UserError as error:
            self.add_error(error)
            return
        self._images[file.path] = _with_voxels(self._images[file.path], channels)
        if strange := sum(channel.not_finite for channel in channels):
            self.add_error(not_finite(strange, file.path))
        if planes:
            slices = [
                Plane(axis, plane.voxels, None if drawn is None else drawn.take(indices[axis], axis=axis))
                for axis, plane in zip((2, 1, 0), planes, strict=True)
            ]
            spacing = file.geometry.canonical_spacing
            self._picture = draw(slices, values=self._drawn_values, spacing=spacing)
            names, position = self._source.modalities, self._case.images.index(file.path)
            self._drawn = names[position if len(names) == len(self._case.images) else 0]

    @property
    def _drawn_values(self) -> list[int]:
        """Declared label values first, so that they have the same colors in all cases."""
        found = [int(value) for value in self._voxels if value.lstrip("-").isdigit()]
        ordered = dict.fromkeys([*self._source.labels.values(), *found[:_MAX_DRAWN_LABELS]])
        return [value for value in ordered if value != BACKGROUND]


def _file_summary(file: NiftiFile) -> FileSummary:
    from nibabel.orientations import ornt2axcodes

    geometry = file.geometry
    channels = (file.channels,) if file.channels > 1 else ()
    return FileSummary(
        path=file.path,
        shape=(*geometry.shape, *channels),
        spacing=tuple(
            float(f"{size:.6g}") for size in np.linalg.norm(np.array(geometry.affine)[:3, :3], axis=0)
        ),
        orientation="".join(ornt2axcodes(geometry.orientation)),
        dtype=str(file.dtype.newbyteorder("=")),
        codes=(geometry.sform_code, geometry.qform_code),
    )


def _with_voxels(view: FileSummary, channels: Sequence[ChannelStats]) -> FileSummary:
    minima = [channel.minimum for channel in channels if channel.minimum is not None]
    maxima = [channel.maximum for channel in channels if channel.maximum is not None]
    digests = "".join(channel.digest for channel in channels)
    return replace(
        view,
        minimum=min(minima, default=None),
        maximum=max(maxima, default=None),
        means=tuple(channel.mean for channel in channels),
        not_finite=sum(channel.not_finite for channel in channels),
        digest=hashlib.sha256(digests.encode()).hexdigest(),
    )


def _fractions(file: NiftiFile) -> dict[str, int]:
    """The values of a label that are not whole; none where it cannot be read at all, which is reported."""
    try:
        return count_fractions(slab for _, _, slab in read_slabs(file))
    except UserError:
        return {}
