"""All that is judged of one class of one case beyond overlap.

Letters: X Y Z voxel axes in nibabel's order.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from ossnet.evaluation.detection import Detection, detect
from ossnet.evaluation.surfaces import Surfaces, surface_measures


@dataclass(frozen=True)
class Details:
    """One class of one case."""

    surfaces: Surfaces
    detection: Detection
    volume_error_ml: float
    """Of the prediction's volume; negative where it is too small."""

    def values(self) -> dict[str, float]:
        """Under the names that files use."""
        return {
            "hd95_mm": self.surfaces.hd95_mm,
            "nsd": self.surfaces.nsd,
            "sensitivity": self.detection.sensitivity,
            "lesions": self.detection.lesions,
            "found": self.detection.found,
            "false_positives": self.detection.false_positives,
            "volume_error_ml": self.volume_error_ml,
        }


def judge(
    prediction: Bool[np.ndarray, "X Y Z"],
    label: Bool[np.ndarray, "X Y Z"],
    spacing: Sequence[float],
    *,
    tolerance_mm: float,
) -> Details:
    """Judge two masks on one grid of this spacing in mm."""
    voxel_ml = math.prod(spacing) / 1000
    return Details(
        surfaces=surface_measures(prediction, label, spacing, tolerance_mm=tolerance_mm),
        detection=detect(prediction, label),
        volume_error_ml=(np.count_nonzero(prediction) - np.count_nonzero(label)) * voxel_ml,
    )
