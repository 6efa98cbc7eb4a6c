"""Losses on logits, the same for points, volumes and slices.

Letters: B batch, K logits, M places (points or voxels, flattened).
"""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class LossConfig:
    """The paper's loss by default: cross-entropy, and a tenth of it on the coarse prediction."""

    cross_entropy_weight: float = 1.0
    """Binary cross-entropy for one class, softmax cross-entropy for several."""
    dice_weight: float = 0.0
    """Soft Dice over the places of each volume (beyond the paper)."""
    auxiliary_weight: float = 0.1
    """Cross-entropy of the auxiliary low-resolution prediction (paper: 0.1)."""


def segmentation_loss(
    logits: Float[Tensor, "B K M"], labels: Int[Tensor, "B M"], config: LossConfig
) -> Float[Tensor, ""]:
    """Loss of class logits; computed in float32 whatever the precision of the network."""
    logits = logits.float()
    loss = config.cross_entropy_weight * _cross_entropy(logits, labels)
    if config.dice_weight:
        loss = loss + config.dice_weight * _dice(logits, labels)
    return loss


def auxiliary_loss(
    logits: Float[Tensor, "B K x y z"], coarse_labels: Float[Tensor, "B K x y z"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy per class: a coarse cell may hold several classes."""
    return functional.binary_cross_entropy_with_logits(logits.float(), coarse_labels)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    if logits.shape[1] == 1:
        return functional.binary_cross_entropy_with_logits(logits[:, 0], (labels > 0).float())
    return functional.cross_entropy(logits, labels)


def _dice(logits: Tensor, labels: Tensor) -> Tensor:
    from monai.losses import DiceLoss

    single = logits.shape[1] == 1
    loss = DiceLoss(sigmoid=single, softmax=not single, to_onehot_y=not single, include_background=single)
    return loss(logits, (labels > 0)[:, None].float() if single else labels[:, None])
