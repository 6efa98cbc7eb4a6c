"""A U-Net with a residual encoder and deep supervision, the strong dense baseline, of MONAI's blocks.

Isensee et al., "nnU-Net Revisited", MICCAI 2024; the blocks are those of MONAI's `DynUNet`.

Letters: B batch, C channels, K logits, X Y Z voxel axes in nibabel's order; 2-D networks have no Z.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ossnet.models.configs import ResidualEncoderUNetConfig
from ossnet.models.dense import DenseNetwork
from ossnet.models.unet import check_levels, in_trusted_precision, recompute

_NORM = ("INSTANCE", {"affine": True})


class ResidualEncoderUNet(DenseNetwork):
    """A residual block a level on the way down, two convolutions a level on the way up, instance norm.

    In training it gives the logits of coarser levels, too; otherwise the finest alone are computed.
    """

    config: ResidualEncoderUNetConfig

    def __init__(self, config: ResidualEncoderUNetConfig) -> None:
        super().__init__(config)
        from monai.networks.blocks.dynunet_block import (  # costs seconds to import
            UnetOutBlock,
            UnetResBlock,
            UnetUpBlock,
        )
        from monai.networks.nets import DynUNet

        dims, widths = config.spatial_dims, config.channels
        sizes = [(config.in_channels, widths[0], 1), *((*pair, 2) for pair in pairwise(widths))]
        self.encoder = nn.ModuleList(
            UnetResBlock(dims, before, width, kernel_size=3, stride=stride, norm_name=_NORM)
            for before, width, stride in sizes
        )
        self.decoder = nn.ModuleList(
            UnetUpBlock(dims, coarse, fine, kernel_size=3, stride=1, upsample_kernel_size=2, norm_name=_NORM)
            for fine, coarse in reversed(list(pairwise(widths)))
        )
        self.heads = nn.ModuleList(
            UnetOutBlock(dims, width, config.logits) for width in widths[: 1 + config.coarse_outputs]
        )
        self.apply(DynUNet.initialize_weights)

    def voxel_logits(
        self, image: Float[Tensor, "B C *grid"]
    ) -> Float[Tensor, "B K *grid"] | tuple[Tensor, ...]:
        """Logits of every voxel of an image that all levels halve evenly; in training with deep supervision
        those of coarser levels after them."""
        return in_trusted_precision(self._logits, image, self.config.grid_multiple)

    def parts(self) -> dict[str, list[nn.Module]]:
        """The network's parts by the names under which memory is reported: the way down; the way up."""
        return {"encoder": [*self.encoder], "decoder": [*self.decoder, *self.heads]}

    def check(self, image: Tensor) -> None:
        """Reject an image of other axes or channels, or one that is reduced to a voxel.

        Raises:
            ValueError: names what was expected.
        """
        super().check(image)
        check_levels(image, self.config.channels)

    def _logits(self, image: Tensor) -> Tensor | tuple[Tensor, ...]:
        recomputes = self.config.checkpoint_activations and torch.is_grad_enabled()
        run = recompute if recomputes else _apply
        skips = [image]
        for block in self.encoder:
            skips.append(run(block, skips[-1]))
        features, outputs = skips.pop(), list[Tensor]()
        supervised = self.config.coarse_outputs if self.training else 0
        for index, block in enumerate(self.decoder):
            features = run(block, features, skips.pop())
            level = len(self.decoder) - 1 - index
            if level <= supervised:
                outputs.insert(0, self.heads[level](features))
        return tuple(outputs) if supervised else outputs[0]


def _apply(block: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    return block(*inputs)
