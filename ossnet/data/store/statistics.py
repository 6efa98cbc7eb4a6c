"""What the manifest says of a data set as a whole."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

import numpy as np

from ossnet.config_tree import to_dict
from ossnet.data.imaging.normalization import Intensity
from ossnet.data.labels.task import Task
from ossnet.data.store.store import CaseEntry


def summarize(cases: Sequence[CaseEntry], task: Task) -> dict[str, Any]:
    """Shapes in voxels, spacing in mm, class frequencies as shares of all voxels, intensities before
    normalization (extremes over all cases, the rest averaged over cases), the storage's largest errors."""
    shapes = np.array([case.shape for case in cases])
    counts = np.array([case.class_counts for case in cases]).sum(axis=0)
    names = ["background", *task.labels]
    return {
        "max_shape": shapes.max(axis=0).tolist(),
        "median_shape": np.median(shapes, axis=0).tolist(),
        "median_spacing": np.median([case.spacing for case in cases], axis=0).tolist(),
        "class_frequencies": dict(zip(names, (counts / counts.sum()).tolist(), strict=True)),
        "intensities": _by_modality([case.intensities for case in cases], task),
        "labeled": _by_modality([case.foreground_intensities for case in cases], task),
        "errors": dict(
            zip(task.modalities, np.max([case.errors for case in cases], axis=0).tolist(), strict=True)
        ),
    }


def _by_modality(cases: Sequence[tuple[Intensity, ...]], task: Task) -> dict[str, Any]:
    channels = zip(*cases, strict=True)
    return {name: _merge(channel) for name, channel in zip(task.modalities, channels, strict=True)}


def _merge(channel: Sequence[Intensity]) -> dict[str, float]:
    values = [to_dict(case) for case in channel]
    averages = {name: mean(case[name] for case in values) for name in values[0]}
    extremes = {
        "minimum": min(case.minimum for case in channel),
        "maximum": max(case.maximum for case in channel),
    }
    return averages | extremes
