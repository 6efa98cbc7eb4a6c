"""All that is measured of one class of one case beyond overlap: surfaces, lesions, volume.

Letters: X Y Z voxel axes in nibabel's order.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from ossnet.evaluation.surfaces import SurfaceMetrics, surface_measures
from ossnet.inference.components import label_components


@dataclass(frozen=True)
class LesionDetection:
    """Which lesions were detected; components connect over faces, edges and corners.

    A lesion is a connected component of the label. A single voxel shared with the prediction detects it.
    """

    lesions: int
    """Connected components of the label."""
    detected: int
    """Those that the prediction touches."""
    false_positives: int
    """Connected components of the prediction that touch no label."""

    @property
    def sensitivity(self) -> float:
        """Fraction of the lesions that were detected; 1 where there are none."""
        return self.detected / self.lesions if self.lesions else 1.0


def detect(prediction: Bool[np.ndarray, "X Y Z"], label: Bool[np.ndarray, "X Y Z"]) -> LesionDetection:
    """Compare the connected components of two masks."""
    lesions, detected = _count_touched(label, prediction)
    components, true_positives = _count_touched(prediction, label)
    return LesionDetection(lesions, detected, components - true_positives)


def _count_touched(mask: Bool[np.ndarray, "X Y Z"], by: Bool[np.ndarray, "X Y Z"]) -> tuple[int, int]:
    """The number of a mask's connected components, and of those that another mask touches."""
    components, voxels = label_components(mask)
    return len(voxels) - 1, len(np.unique(components[mask & by]))


@dataclass(frozen=True)
class MaskMetrics:
    """All measures but overlap of one class of one case."""

    surfaces: SurfaceMetrics
    """Distances between the surfaces."""
    detection: LesionDetection
    """Which lesions were detected."""
    volume_error_ml: float
    """Volume of the prediction minus that of the label; negative where the prediction is too small."""

    def values(self) -> dict[str, float]:
        """Every measure by its column's name."""
        return {
            "hd95_mm": self.surfaces.hd95_mm,
            "nsd": self.surfaces.nsd,
            "sensitivity": self.detection.sensitivity,
            "lesions": self.detection.lesions,
            "detected": self.detection.detected,
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
    """Compare two masks on one grid.

    Args:
        spacing: mm along each axis.
        tolerance_mm: the tolerance of the normalized surface distance.
    """
    voxel_ml = math.prod(spacing) / 1000
    return MaskMetrics(
        surfaces=surface_measures(prediction, label, spacing, tolerance_mm=tolerance_mm),
        detection=detect(prediction, label),
        volume_error_ml=(np.count_nonzero(prediction) - np.count_nonzero(label)) * voxel_ml,
    )
