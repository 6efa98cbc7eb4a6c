"""Residual U-Nets, the baselines: MONAI's, on volumes or slices of any size.

Letters: B batch, C channels, K logits, X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ossnet.models.configs import UNetConfig
from ossnet.models.dense import DenseNetwork

Result = TypeVar("Result")


class UNet(DenseNetwork):
    """A residual U-Net with instance normalization and PReLU; any size, by zero padding at the far ends."""

    config: UNetConfig

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        from monai.networks.nets import UNet as MonaiUNet  # costs seconds to import

        self.network = MonaiUNet(
            spatial_dims=config.spatial_dims,
            in_channels=config.in_channels,
            out_channels=config.logits,
            channels=config.channels,
            strides=(2,) * (len(config.channels) - 1),
            num_res_units=config.residual_units,
            norm="instance",
        )

    def voxel_logits(self, image: Float[Tensor, "B C *grid"]) -> Float[Tensor, "B K *grid"]:
        """Logits of every voxel of an image that all levels halve evenly."""
        return in_trusted_precision(self._logits, image, self.config.grid_multiple)

    def parts(self) -> dict[str, list[nn.Module]]:
        """The network's parts by the names under which memory is reported: the way down; the way up and its
        joints."""
        level, encoder, decoder = self.network.model, list[nn.Module](), list[nn.Module]()
        while isinstance(level, nn.Sequential):
            down, skip, up = level
            encoder.append(down)
            decoder += [skip, up]
            level = skip.get_submodule("submodule")
        return {"encoder": [*encoder, level], "decoder": decoder}

    def _logits(self, image: Tensor) -> Tensor:
        if self.config.checkpoint_activations and torch.is_grad_enabled():
            return _by_block(self.network.model, image)
        return self.network(image)

    def check(self, image: Tensor) -> None:
        """Reject an image of other axes or channels, or one that is reduced to a voxel.

        Raises:
            ValueError: names what was expected.
        """
        super().check(image)
        check_levels(image, self.config.channels)


def check_levels(image: Tensor, channels: Sequence[int]) -> None:
    """Reject an image that levels of so many channels reduce to a voxel.

    Raises:
        ValueError: names the edge that would do.
    """
    multiple = 2 ** (len(channels) - 1)
    if max(image.shape[2:]) <= multiple:
        msg = (
            f"image: {tuple(image.shape[2:])} reduces to one voxel over channels={channels}; "
            f"use fewer levels or an image with an axis above {multiple}"
        )
        raise ValueError(msg)


def in_trusted_precision(network: Callable[[Tensor], Result], image: Tensor, multiple: int) -> Result:
    """What a network of levels gives for an image whose edges its levels halve to a `multiple`-th.

    In float32 on a CPU where two planes are left at the bottom: there bfloat16 weight gradients are wrong,
    see `kernels/convolution.py`.
    """
    if image.device.type == "cpu" and image.shape[2] <= 2 * multiple:
        with torch.autocast("cpu", enabled=False):
            return network(image.float())
    return network(image)


def _by_block(level: nn.Module, features: Tensor) -> Tensor:
    """The output of a level of MONAI's U-Net and all below it; only the inputs of its blocks are kept."""
    if not isinstance(level, nn.Sequential):  # the bottom
        return recompute(level, features)
    down, skip, up = level
    fine = recompute(down, features)
    coarse = _by_block(skip.get_submodule("submodule"), fine)
    # The skip connection's concatenation is recomputed, too: its parts are kept anyway.
    return recompute(lambda *parts: up(torch.cat(parts, 1)), fine, coarse)


def recompute(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """`function(*inputs)`, of which only the inputs are kept: it is computed again in the backward pass."""
    result = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)  # nothing is drawn
    assert isinstance(result, Tensor)
    return result
