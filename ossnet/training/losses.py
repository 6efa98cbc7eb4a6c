"""Losses on logits, the same for points, volumes and slices; installed packages can add some.

Letters: B batch, K logits, M places (points or voxels, flattened).
"""

from collections.abc import Sequence
from functools import partial
from types import EllipsisType

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from ossnet.training.config import LOSSES, Loss, LossConfig

_SMOOTH = 1e-5
"""Places added to the numerator and denominator of Dice, which would else be 0 / 0 without a region."""


def segmentation_loss(
    logits: Float[Tensor, "B K M"], target: Int[Tensor, "B M"] | Float[Tensor, "B K M"], config: LossConfig
) -> Float[Tensor, ""]:
    """Loss of class logits; computed in float32 whatever the precision of the network.

    Args:
        target: the class of each place, 0 for the background; or, of regions that may overlap, whether each
            place lies in each of them (0 or 1).
    """
    logits = logits.float()
    if target.ndim == 2 and logits.shape[1] == 1:
        target = (target > 0)[:, None].float()  # a single class is a region
    extra = [(config.extra_weight, LOSSES.plugins()[name]) for name in config.extra]
    terms: tuple[tuple[float, Loss], ...] = (
        (config.cross_entropy_weight, _cross_entropy),
        (config.dice_weight, _dice),
        (config.focal_weight, partial(_focal, gamma=config.focal_gamma)),
        *extra,
    )
    return torch.stack([weight * loss(logits, target) for weight, loss in terms if weight]).sum()


def deep_supervision_loss(
    levels: Sequence[Tensor], target: Int[Tensor, "B *grid"] | Float[Tensor, "B K *grid"], config: LossConfig
) -> Float[Tensor, ""]:
    """The mean loss of a U-Net's levels, each of half the weight of the one before, as nnU-Net weighs them.

    Args:
        levels: logits `[B K ...]`, the finest first, each at half the resolution of the one before.
        target: as that of `segmentation_loss`, on the finest grid; coarser levels get every second voxel of
            it, every fourth and so on, which is the nearest.
    """
    axes = range(levels[0].ndim - 2)
    weights = [0.5**level for level in range(len(levels))]
    losses = []
    for level, (logits, weight) in enumerate(zip(levels, weights, strict=True)):
        index: tuple[slice | EllipsisType, ...] = (..., *(slice(None, None, 2**level) for _ in axes))
        nearest = target[index].flatten(-len(axes))
        losses.append(weight / sum(weights) * segmentation_loss(logits.flatten(2), nearest, config))
    return torch.stack(losses).sum()


def auxiliary_loss(
    logits: Float[Tensor, "B K x y z"], coarse_labels: Float[Tensor, "B K x y z"]
) -> Float[Tensor, ""]:
    """Binary cross-entropy per class: a coarse cell may hold several classes."""
    return functional.binary_cross_entropy_with_logits(logits.float(), coarse_labels)


def distance_loss(distances: Float[Tensor, "B N K"], target: Float[Tensor, "B N K"]) -> Float[Tensor, ""]:
    """Mean absolute error of signed distances in [-1, 1]; in float32."""
    return functional.l1_loss(distances.float(), target)


def _exclusive(target: Tensor) -> bool:
    """Whether a place has one class of several, rather than being in any number of regions."""
    return target.ndim == 2


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    if _exclusive(target):
        return functional.cross_entropy(logits, target)
    return functional.binary_cross_entropy_with_logits(logits, target)


def _dice(logits: Tensor, target: Tensor) -> Tensor:
    # As MONAI's DiceLoss, which reads values of tensors and so cannot run on fake ones.
    if not _exclusive(target):
        probability = logits.sigmoid()
        return _soft_dice((probability * target).sum(2), probability.sum(2) + target.sum(2))
    # Summed by each place's own class: a mask of every class would take as much as the logits.
    probability = logits.softmax(1)
    own = probability.gather(1, target[:, None])[:, 0]
    none = logits.new_zeros(logits.shape[:2])
    overlap, size = none.scatter_add(1, target, own), none.scatter_add(1, target, torch.ones_like(own))
    return _soft_dice(overlap[:, 1:], (probability.sum(2) + size)[:, 1:])


def _soft_dice(overlap: Tensor, total: Tensor) -> Tensor:
    """The mean soft Dice loss over volumes and regions; 0 where a region is neither present nor predicted."""
    return (1 - (2 * overlap + _SMOOTH) / (total + _SMOOTH)).mean()


def _focal(logits: Tensor, target: Tensor, *, gamma: float) -> Tensor:
    if _exclusive(target):  # MONAI would make a mask of every class
        error = functional.cross_entropy(logits, target, reduction="none")
        return ((-torch.expm1(-error)) ** gamma * error).mean()
    from monai.losses import FocalLoss

    return FocalLoss(gamma=gamma)(logits, target)
