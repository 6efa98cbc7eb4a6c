"""Distances between the surfaces of two masks, in mm: MONAI's measures with a fixed policy for empty masks.

Letters: X Y Z voxel axes in nibabel's order.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool

PERCENTILE = 95.0


@dataclass(frozen=True)
class SurfaceMetrics:
    """Distances between two surfaces. Two empty masks are at 0 mm and score 1; one empty mask is an image
    diagonal away and scores 0."""

    hd95_mm: float
    """95th percentile of the distances from one surface to the other, the larger of both directions."""
    nsd: float
    """Fraction of both surfaces that lies within the tolerance of the other (surface Dice)."""


def surface_measures(
    prediction: Bool[np.ndarray, "X Y Z"],
    label: Bool[np.ndarray, "X Y Z"],
    spacing: Sequence[float],
    *,
    tolerance_mm: float,
) -> SurfaceMetrics:
    """HD95 and NSD of two masks on one grid; a surface is the voxels that have a face outside.

    Args:
        spacing: mm along each axis.
        tolerance_mm: the distance within which surfaces agree.

    Raises:
        ValueError: the shapes differ.
    """
    if prediction.shape != label.shape:
        msg = f"expected prediction and label of one shape, found {prediction.shape} and {label.shape}"
        raise ValueError(msg)
    if not (prediction.any() and label.any()):
        same = not (prediction.any() or label.any())
        diagonal = math.hypot(*(edge * size for edge, size in zip(label.shape, spacing, strict=True)))
        return SurfaceMetrics(0.0 if same else diagonal, float(same))
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    one, other = _cut(prediction, label)
    sizes = [float(size) for size in spacing]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI warns of its own calls
        hausdorff = compute_hausdorff_distance(
            one, other, include_background=True, percentile=PERCENTILE, spacing=sizes
        )
        surface_dice = compute_surface_dice(
            one, other, class_thresholds=[tolerance_mm], include_background=True, spacing=sizes
        )
    return SurfaceMetrics(float(hausdorff), float(surface_dice))


def _cut(*masks: Bool[np.ndarray, "X Y Z"]) -> list[torch.Tensor]:
    """The box that holds both, with a rim of background, as one channel of one volume."""
    either = np.logical_or(*masks)
    box = []
    for axis in range(3):
        held = np.flatnonzero(either.any(tuple(other for other in range(3) if other != axis)))
        box.append(slice(held[0], held[-1] + 1))
    return [torch.from_numpy(np.pad(mask[tuple(box)], 1))[None, None].float() for mask in masks]
