"""Overlap of a prediction and a label, on full volumes.

Letters: X Y Z voxel axes in nibabel's order.
"""

from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from ossnet.data.labels.scheme import ClassScheme


@dataclass(frozen=True)
class OverlapMetrics:
    """The overlap of a prediction and a label, of one class of one case.

    A class that neither has scores 1, one that only one of them has scores 0.
    """

    dice: float
    """Twice the shared voxels over the sum of both."""
    iou: float
    """Shared voxels over those of either."""
    label_voxels: int
    """Voxels of the label."""
    predicted_voxels: int
    """Voxels of the prediction."""


def dice_iou(
    prediction: UInt8[Tensor, "X Y Z"], label: UInt8[Tensor, "X Y Z"], scheme: ClassScheme
) -> tuple[OverlapMetrics, ...]:
    """Overlap of every foreground class.

    Examples:
        >>> label = torch.zeros(4, 4, 4, dtype=torch.uint8)
        >>> label[:2], prediction = 1, label.clone()
        >>> prediction[0] = 1
        >>> dice_iou(prediction, label, ClassScheme(classes=1))
        (OverlapMetrics(dice=0.666..., iou=0.5, label_voxels=32, predicted_voxels=16),)

    Args:
        prediction: the predicted codes.
        label: the true codes.
        scheme: what the codes mean.

    Raises:
        ValueError: the shapes differ, or a code beyond the classes occurs.
    """
    if prediction.shape != label.shape:
        msg = (
            f"expected prediction and label of one shape, found {(*prediction.shape,)} and {(*label.shape,)}"
        )
        raise ValueError(msg)
    membership = torch.from_numpy(scheme.membership).long().T
    codes = membership.shape[1]
    pairs = torch.bincount((label.long() * codes + prediction).flatten(), minlength=codes * codes)
    largest = max(int(label.max()), int(prediction.max())) if label.numel() else 0
    if largest >= codes:
        msg = f"expected codes from 0 to {codes - 1}, found {largest}"
        raise ValueError(msg)
    table = pairs.reshape(codes, codes)  # a row a true code, a column a predicted one
    shared = ((membership @ table) * membership).sum(1).tolist()
    labeled, predicted = (membership @ table.sum(1)).tolist(), (membership @ table.sum(0)).tolist()
    return tuple(map(_overlap, shared, labeled, predicted))


def _overlap(shared: int, labeled: int, predicted: int) -> OverlapMetrics:
    total = labeled + predicted
    if total == 0:
        return OverlapMetrics(1.0, 1.0, 0, 0)
    return OverlapMetrics(2 * shared / total, shared / (total - shared), labeled, predicted)
