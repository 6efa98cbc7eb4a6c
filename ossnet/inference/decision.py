"""From logits to class indices and probabilities: the one place that knows the rule.

Letters: K logits, N places.
"""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from ossnet.models import OccupancyNetwork, UNet


def check_decidable(network: nn.Module) -> None:
    """Refuse a network that gives no single class a voxel.

    Raises:
        ValueError: a network of another kind, or one whose classes are overlapping regions.
    """
    if not isinstance(network, OccupancyNetwork | UNet):
        msg = f"expected an OccupancyNetwork or a UNet of ossnet.models, found {type(network).__name__}"
        raise ValueError(msg)
    config = network.config
    if config.overlapping and config.classes > 1:
        msg = "overlapping regions cannot be predicted as one label map: train with overlapping false"
        raise ValueError(msg)


def decide(logits: Float[Tensor, "N K"]) -> UInt8[Tensor, " N"]:
    """Class indices, 0 for the background.

    One logit: foreground where its probability is above 0.5 (strictly, as in the paper). Several: the largest
    one, the background being the first; the earlier class wins a tie.
    """
    if logits.shape[1] == 1:
        return (logits[:, 0] > 0).to(torch.uint8)
    return logits.argmax(1).to(torch.uint8)


def probabilities(logits: Float[Tensor, "N K"]) -> Float[Tensor, "N C"]:
    """Probability of every foreground class, in float32."""
    logits = logits.float()
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)[:, 1:]
