"""How far a prediction and a label overlap, on full volumes.

Letters: X Y Z voxel axes in nibabel's order.
"""

from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from ossnet.data.labels.codes import members


@dataclass(frozen=True)
class OverlapMetrics:
    """One class of one case. A class that neither has scores 1, one that only one of them has scores 0."""

    dice: float
    iou: float
    label_voxels: int
    predicted_voxels: int


def dice_iou(
    prediction: UInt8[Tensor, "X Y Z"],
    label: UInt8[Tensor, "X Y Z"],
    classes: int,
    *,
    overlapping: bool = False,
) -> tuple[OverlapMetrics, ...]:
    """Overlap of every foreground class, of codes (`data/labels/codes.py`): class indices, or a bit a region.

    Raises:
        ValueError: the shapes differ, or a code beyond the classes occurs.
    """
    if prediction.shape != label.shape:
        msg = (
            f"expected prediction and label of one shape, found {(*prediction.shape,)} and {(*label.shape,)}"
        )
        raise ValueError(msg)
    inside = torch.from_numpy(members(classes, overlapping=overlapping)).long().T
    side = inside.shape[1]
    pairs = torch.bincount((label.long() * side + prediction).flatten(), minlength=side * side)
    largest = max(int(label.max()), int(prediction.max())) if label.numel() else 0
    if largest >= side:
        msg = f"expected codes from 0 to {side - 1}, found {largest}"
        raise ValueError(msg)
    table = pairs.reshape(side, side)
    shared = ((inside @ table) * inside).sum(1).tolist()
    expected, found = (inside @ table.sum(1)).tolist(), (inside @ table.sum(0)).tolist()
    return tuple(map(_overlap, shared, expected, found))


def _overlap(shared: int, expected: int, found: int) -> OverlapMetrics:
    if expected + found == 0:
        return OverlapMetrics(1.0, 1.0, 0, 0)
    return OverlapMetrics(
        2 * shared / (expected + found), shared / (expected + found - shared), expected, found
    )
