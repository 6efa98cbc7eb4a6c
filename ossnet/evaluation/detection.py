"""Lesion by lesion: which connected pieces were found, and which were invented.

Letters: X Y Z voxel axes in nibabel's order.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool


@dataclass(frozen=True)
class LesionDetection:
    """Pieces connect over faces, edges and corners; a single shared voxel makes a find."""

    lesions: int
    """Pieces of the label."""
    found: int
    """Those that the prediction touches."""
    false_positives: int
    """Pieces of the prediction that touch no label."""

    @property
    def sensitivity(self) -> float:
        """Share of the lesions that were found; 1 where there are none."""
        return self.found / self.lesions if self.lesions else 1.0


def detect(prediction: Bool[np.ndarray, "X Y Z"], label: Bool[np.ndarray, "X Y Z"]) -> LesionDetection:
    """Compare the pieces of two masks."""
    lesions, found = _touched(label, prediction)
    pieces, true = _touched(prediction, label)
    return LesionDetection(lesions, found, pieces - true)


def _touched(mask: Bool[np.ndarray, "X Y Z"], by: Bool[np.ndarray, "X Y Z"]) -> tuple[int, int]:
    from scipy.ndimage import label as pieces_of

    pieces, count = pieces_of(mask, np.ones((3, 3, 3)))
    return int(count), len(np.unique(pieces[mask & by]))
