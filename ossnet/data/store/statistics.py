"""Statistics of each case and of the whole data set, available without reading voxels.

Legend: C channels, X Y Z voxel axes in nibabel order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from statistics import mean

import numpy as np
from jaxtyping import UInt8

from ossnet.data.imaging.geometry import Shape, Spacing
from ossnet.data.imaging.normalization import Intensity
from ossnet.data.labels.task import Task
from ossnet.data.store.quantization import Storage


@dataclass(frozen=True)
class CaseStatistics:
    """Statistics of a prepared case; stored in its file and in the manifest."""

    shape: Shape
    """X Y Z."""
    spacing: Spacing
    """Voxel size in mm along R, A and S."""
    class_counts: tuple[int, ...]
    """Voxels of each label index, background first."""
    intensities: tuple[Intensity, ...]
    """Statistics of the voxels that are not zero, for each channel, before normalization."""
    foreground_intensities: tuple[Intensity, ...]
    """Statistics of the voxels that bear a label, for each channel, before normalization."""
    storage: Storage
    """Number format of the stored image."""
    errors: tuple[float, ...]
    """Largest distance of a stored intensity from the normalized one, one a channel, in its units."""


@dataclass(frozen=True)
class DatasetStatistics:
    """Statistics of all cases of a store together."""

    max_shape: Shape
    """Largest extent in voxels along R, A and S."""
    median_shape: tuple[float, float, float]
    """Median extent in voxels along R, A and S."""
    median_spacing: Spacing
    """Median voxel size in mm along R, A and S."""
    class_frequencies: dict[str, float]
    """Fraction of all voxels that bear each label, the background included."""
    intensities: dict[str, Intensity]
    """Statistics of each modality's voxels that are not zero: extremes over all cases, other values averaged
    over cases."""
    foreground_intensities: dict[str, Intensity]
    """Statistics by modality, like `intensities`, of the voxels that bear a label."""
    errors: dict[str, float]
    """Largest storage error of each modality."""


def count_labels(label: UInt8[np.ndarray, "X Y Z"], labels: int) -> tuple[int, ...]:
    """Voxels of each label index, the background first.

    Args:
        labels: number of labels without the background.
    """
    # Slab by slab, as counting takes 8 bytes a voxel.
    counts = sum(np.bincount(slab.ravel(), minlength=labels + 1) for slab in label)
    return tuple(np.asarray(counts).tolist())


def summarize(cases: Sequence[CaseStatistics], task: Task) -> DatasetStatistics:
    """Statistics of all cases together; there is at least one."""
    shapes = np.array([case.shape for case in cases])
    counts = np.array([case.class_counts for case in cases]).sum(axis=0)
    names = ["background", *task.labels]
    errors = np.max([case.errors for case in cases], axis=0)
    return DatasetStatistics(
        max_shape=tuple(shapes.max(axis=0).tolist()),
        median_shape=tuple(np.median(shapes, axis=0).tolist()),
        median_spacing=tuple(np.median([case.spacing for case in cases], axis=0).tolist()),
        class_frequencies=dict(zip(names, (counts / counts.sum()).tolist(), strict=True)),
        intensities=_by_modality([case.intensities for case in cases], task),
        foreground_intensities=_by_modality([case.foreground_intensities for case in cases], task),
        errors=dict(zip(task.modalities, errors.tolist(), strict=True)),
    )


def _by_modality(cases: Sequence[tuple[Intensity, ...]], task: Task) -> dict[str, Intensity]:
    channels = zip(*cases, strict=True)
    return {name: _merge(channel) for name, channel in zip(task.modalities, channels, strict=True)}


def _merge(channel: Sequence[Intensity]) -> Intensity:
    averages = {
        field.name: mean(getattr(case, field.name) for case in channel) for field in fields(Intensity)
    }
    return replace(
        Intensity(**averages),
        minimum=min(case.minimum for case in channel),
        maximum=max(case.maximum for case in channel),
    )
