"""What the manifest says of a data set as a whole."""

from collections.abc import Sequence
from statistics import mean
from typing import Any

import numpy as np

from ossnet.data.normalisation import Intensity
from ossnet.data.store import CaseEntry
from ossnet.data.task import Task
from ossnet.tree import to_dict


def summarise(cases: Sequence[CaseEntry], task: Task) -> dict[str, Any]:
    """Shapes in voxels, spacing in mm, class frequencies as shares of all voxels, intensities before
    normalisation (mean and deviation averaged over cases, extremes over all)."""
    shapes = np.array([case.shape for case in cases])
    counts = np.array([case.class_counts for case in cases]).sum(axis=0)
    names = ["background", *task.labels]
    return {
        "max_shape": shapes.max(axis=0).tolist(),
        "median_shape": np.median(shapes, axis=0).tolist(),
        "median_spacing": np.median([case.spacing for case in cases], axis=0).tolist(),
        "class_frequencies": dict(zip(names, (counts / counts.sum()).tolist(), strict=True)),
        "intensities": {
            modality: to_dict(_intensity([case.intensities[channel] for case in cases]))
            for channel, modality in enumerate(task.modalities)
        },
    }


def _intensity(channels: Sequence[Intensity]) -> Intensity:
    return Intensity(
        mean=mean(channel.mean for channel in channels),
        std=mean(channel.std for channel in channels),
        minimum=min(channel.minimum for channel in channels),
        maximum=max(channel.maximum for channel in channels),
    )
