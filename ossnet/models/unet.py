"""Residual U-Nets, the baselines: MONAI's, on volumes or slices of any size.

Letters: B batch, C channels, K logits, X Y Z voxel axes in nibabel's order.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ossnet.models.configs import UNetConfig


class UNet(nn.Module):
    """A residual U-Net with instance normalization and PReLU; any size, by zero padding at the far ends."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        from monai.networks.nets import UNet as MonaiUNet  # costs seconds to import

        self.config = config
        self.network = MonaiUNet(
            spatial_dims=config.spatial_dims,
            in_channels=config.in_channels,
            out_channels=config.logits,
            channels=config.channels,
            strides=(2,) * (len(config.channels) - 1),
            num_res_units=config.residual_units,
            norm="instance",
        )

    def forward(self, image: Float[Tensor, "B C *grid"]) -> Float[Tensor, "B K *grid"]:
        """Logits of every voxel.

        Raises:
            ValueError: wrong number of axes or channels, or an image too small for the depth.
        """
        self._check(image)
        grid = image.shape[2:]
        multiple = 2 ** (len(self.config.channels) - 1)
        widths = [width for edge in reversed(grid) for width in (0, -edge % multiple)]
        padded = functional.pad(image, widths)
        if image.device.type == "cpu" and padded.shape[2] <= 2 * multiple:
            # Two planes at the bottom: there bfloat16 weight gradients are wrong on CPUs, see convolution.py.
            with torch.autocast("cpu", enabled=False):
                logits = self._logits(padded.float())
        else:
            logits = self._logits(padded)
        return logits[(slice(None), slice(None), *(slice(edge) for edge in grid))]

    def parts(self) -> dict[str, list[nn.Module]]:
        """Its parts by what memory is reported under: the way down; the way up and its joints."""
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

    def _check(self, image: Tensor) -> None:
        axes, channels = self.config.spatial_dims, self.config.in_channels
        if image.ndim != axes + 2 or image.shape[1] != channels:
            msg = f"image: expected [batch, {channels}, {axes} axes], found shape {tuple(image.shape)}"
            raise ValueError(msg)
        multiple = 2 ** (len(self.config.channels) - 1)
        if max(image.shape[2:]) <= multiple:
            msg = (
                f"image: {tuple(image.shape[2:])} shrinks to one voxel over channels={self.config.channels}; "
                f"use fewer levels or an image with an axis above {multiple}"
            )
            raise ValueError(msg)


def _by_block(level: nn.Module, features: Tensor) -> Tensor:
    """What a level of MONAI's U-Net and all below it give, keeping what goes into its blocks and no more."""
    if not isinstance(level, nn.Sequential):  # the bottom
        return _recompute(level, features)
    down, skip, up = level
    fine = _recompute(down, features)
    coarse = _by_block(skip.get_submodule("submodule"), fine)
    # The skip connection's concatenation is recomputed, too: its parts are kept anyway.
    return _recompute(lambda *parts: up(torch.cat(parts, 1)), fine, coarse)


def _recompute(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    result = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)  # nothing is drawn
    assert isinstance(result, Tensor)
    return result
