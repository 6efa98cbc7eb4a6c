"""How far a prediction and a label overlap, on full volumes.

Letters: X Y Z voxel axes in nibabel's order.
"""

from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor


@dataclass(frozen=True)
class Overlap:
    """One class of one case. A class that neither has scores 1, one that only one of them has scores 0."""

    dice: float
    iou: float
    label_voxels: int
    predicted_voxels: int


def dice_iou(
    prediction: UInt8[Tensor, "X Y Z"], label: UInt8[Tensor, "X Y Z"], classes: int
) -> tuple[Overlap, ...]:
    """Overlap of every foreground class 1..classes.

    Raises:
        ValueError: the shapes differ, or an index beyond the classes occurs.
    """
    if prediction.shape != label.shape:
        msg = (
            f"expected prediction and label of one shape, found {(*prediction.shape,)} and {(*label.shape,)}"
        )
        raise ValueError(msg)
    side = classes + 1
    pairs = torch.bincount((label.long() * side + prediction).flatten(), minlength=side * side)
    largest = max(int(label.max()), int(prediction.max())) if label.numel() else 0
    if largest > classes:
        msg = f"expected class indices from 0 to {classes}, found {largest}"
        raise ValueError(msg)
    table = pairs.reshape(side, side)
    shared, expected, found = table.diagonal().tolist(), table.sum(1).tolist(), table.sum(0).tolist()
    return tuple(_overlap(shared[k], expected[k], found[k]) for k in range(1, side))


def _overlap(shared: int, expected: int, found: int) -> Overlap:
    if expected + found == 0:
        return Overlap(1.0, 1.0, 0, 0)
    return Overlap(2 * shared / (expected + found), shared / (expected + found - shared), expected, found)
