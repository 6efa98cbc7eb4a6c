"""All that is judged of one class of one case beyond overlap.

Letters: X Y Z voxel axes in nibabel's order.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from ossnet.evaluation.detection import LesionDetection, detect
from ossnet.evaluation.surfaces import SurfaceMetrics, surface_measures


@dataclass(frozen=True)
class MaskMetrics:
    """One class of one case."""

    surfaces: SurfaceMetrics
    detection: LesionDetection
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


def score_mask(
    prediction: Bool[np.ndarray, "X Y Z"],
    label: Bool[np.ndarray, "X Y Z"],
    spacing: Sequence[float],
    *,
    tolerance_mm: float,
) -> MaskMetrics:
    """Judge two masks on one grid of this spacing in mm."""
    voxel_ml = math.prod(spacing) / 1000
    return MaskMetrics(
        surfaces=surface_measures(prediction, label, spacing, tolerance_mm=tolerance_mm),
        detection=detect(prediction, label),
        volume_error_ml=(np.count_nonzero(prediction) - np.count_nonzero(label)) * voxel_ml,
    )
