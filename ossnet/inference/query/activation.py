"""From logits to codes and probabilities: the one place that knows the rule.

Letters: K logits, N places.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ossnet.data.labels.codes import MAX_REGIONS
from ossnet.models import DenseNetwork, OccupancyNetwork


def check_supported(network: nn.Module) -> bool:
    """Refuse a network that decides nothing we know; of the others, whether their classes overlap.

    Raises:
        ValueError: a network of another kind, or one of more regions than a code holds.
    """
    if not isinstance(network, OccupancyNetwork | DenseNetwork):
        msg = (
            f"expected an OccupancyNetwork or a DenseNetwork of ossnet.models, found {type(network).__name__}"
        )
        raise ValueError(msg)
    config = network.config
    if config.overlapping and config.classes > MAX_REGIONS:
        msg = f"expected at most {MAX_REGIONS} overlapping regions, found {config.classes}"
        raise ValueError(msg)
    return config.overlapping


def predict_classes(logits: Float[Tensor, "N K"], *, overlapping: bool) -> UInt8[Tensor, " N"]:
    """Codes (`ossnet.data.labels.codes`): class indices, 0 for the background, or a bit a region.

    One logit, or one a region: inside where its probability is above 0.5 (strictly, as in the paper). Several
    classes: the largest one, the background being the first; the earlier class wins a tie.
    """
    if logits.shape[1] == 1 or overlapping:
        bits = 1 << torch.arange(logits.shape[1], device=logits.device)
        return ((logits > 0) * bits.byte()).sum(1, dtype=torch.uint8)
    return logits.argmax(1).to(torch.uint8)


def margins(logits: Float[Tensor, "N K"], *, overlapping: bool) -> Float[Tensor, "N C"]:
    """How far every foreground class is from being decided: positive where it is.

    The logit of one class or a region; of several classes the logit less the largest other one.
    """
    if logits.shape[1] == 1 or overlapping:
        return logits
    largest, second = logits.topk(2, 1).values.T[..., None]
    foreground = logits[:, 1:]
    return foreground - torch.where(foreground == largest, second, largest)


def probabilities(
    logits: Float[Tensor, "N K"], *, overlapping: bool, temperature: float = 1.0
) -> Float[Tensor, "N C"]:
    """Probability of every foreground class, in float32.

    Args:
        temperature: logits are divided by it, which changes no decision.
    """
    logits = logits.float() / temperature
    return logits.sigmoid() if logits.shape[1] == 1 or overlapping else logits.softmax(1)[:, 1:]


def mean_logits(parts: Sequence[Float[Tensor, "N K"]], *, overlapping: bool) -> Float[Tensor, "N K"]:
    """Logits of the mean probability."""
    logits = torch.stack(list(parts)).double()
    if logits.shape[2] == 1 or overlapping:
        return logits.sigmoid().mean(0).logit(1e-15).float()
    return (logits.log_softmax(2).logsumexp(0) - math.log(len(parts))).float()
