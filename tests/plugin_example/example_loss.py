"""A loss in one file: the Tversky loss (Salehi et al., 2017), which counts misses more than false alarms."""

import torch
from torch import Tensor

_MISSES, _FALSE_ALARMS, _SMOOTH = 0.7, 0.3, 1e-5


def tversky(logits: Tensor, target: Tensor) -> Tensor:
    """The loss of logits `[B K M]` and classes `[B M]`, or regions `[B K M]` of 0 and 1."""
    if target.ndim == 2:
        classes = torch.arange(1, logits.shape[1], device=logits.device)
        probability, truth = logits.softmax(1)[:, 1:], (target[:, None] == classes[:, None]).float()
    else:
        probability, truth = logits.sigmoid(), target
    found = (probability * truth).sum(2)
    missed, wrong = (truth - probability * truth).sum(2), (probability - probability * truth).sum(2)
    index = (found + _SMOOTH) / (found + _MISSES * missed + _FALSE_ALARMS * wrong + _SMOOTH)
    return (1 - index).mean()
