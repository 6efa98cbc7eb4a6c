"""The decoder: points, what is known of each, and the latents to outputs.

Letters: B batch, N points, D latent vectors, L latent length, F point features, W decoder width, O outputs
(logits, then distances).
"""

from collections.abc import Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ossnet.models.configs import OccupancyConfig
from ossnet.models.kernels.checkpointing import checkpointed
from ossnet.models.kernels.fused import Linear, fused_activation, fused_linear
from ossnet.models.kernels.normalization import ConditionalNorm, Modulation
from ossnet.models.kernels.pade import Pade
from ossnet.models.kernels.tiles import chunked

Hidden = Float[Tensor, "B N W"]


class DecoderBlock(nn.Module):
    """Two conditionally normalized linear layers with a shortcut (spec section 5)."""

    def __init__(self, config: OccupancyConfig) -> None:
        super().__init__()
        width = config.decoder_width
        self.linear1 = self._first_layer(config)
        self.normalization1 = self._normalization(config)
        self.activation1 = Pade()
        self.linear2 = nn.Linear(width, width)
        self.normalization2 = self._normalization(config)
        self.activation2 = Pade()

    def _first_layer(self, config: OccupancyConfig) -> nn.Linear:
        return nn.Linear(config.decoder_width, config.decoder_width)

    @staticmethod
    def _normalization(config: OccupancyConfig) -> ConditionalNorm:
        per_feature = config.conditional_norm == "feature"
        return ConditionalNorm(config.latent_length, config.decoder_width, per_feature=per_feature)

    def modulations(self, latent: Float[Tensor, "B L"]) -> tuple[Modulation, Modulation]:
        """Gains and offsets of the two normalizations, one row a volume."""
        return self.normalization1.modulation(latent), self.normalization2.modulation(latent)

    def features(
        self, hidden: Hidden, residual: Hidden, modulations: tuple[Modulation, Modulation]
    ) -> Hidden:
        """The block's features alone; arguments as in `forward`."""
        _, hidden = self._middle(hidden, modulations[0])
        return fused_activation(
            hidden,
            self.activation2,
            self.normalization2.standardization(hidden),
            modulations[1],
            residual=residual,
        )

    def _middle(self, hidden: Hidden, modulation: Modulation) -> tuple[Tensor, Hidden]:
        return fused_linear(
            hidden,
            self.activation1,
            self.normalization1.standardization(hidden),
            modulation,
            Linear(self.linear2.weight, self.linear2.bias),
            owns_gradient=True,
        )

    def forward(
        self,
        hidden: Hidden,
        residual: Hidden,
        modulations: tuple[Modulation, Modulation],
        following: Linear,
        *,
        last: bool,
    ) -> tuple[Hidden, Tensor]:
        """The block's features (empty from the last one), and what the layer that follows makes of them.

        Args:
            hidden: the block's input after its own first linear layer.
            residual: the block's input, in its shortcut's width.
            modulations: from `modulations`.
            following: the next block's first linear layer, or the output layer.
            last: no block follows.
        """
        _, hidden = self._middle(hidden, modulations[0])
        return fused_linear(
            hidden,
            self.activation2,
            self.normalization2.standardization(hidden),
            modulations[1],
            following,
            residual=residual,
            keep=not last,
            owns_gradient=not last,
        )


class InputBlock(DecoderBlock):
    """The first block: its input is [coordinates | patch features | queried features | latent], its
    shortcut a linear layer.

    The latent, and the center that coordinates are measured from, are the same for all points of a volume:
    they are multiplied once and join the bias.
    """

    def __init__(self, config: OccupancyConfig) -> None:
        super().__init__(config)
        self.shortcut = self._first_layer(config)

    def _first_layer(self, config: OccupancyConfig) -> nn.Linear:
        return nn.Linear(3 + config.point_features + config.latent_length, config.decoder_width)

    def volume_terms(self, latent: Float[Tensor, "B L"], center: Float[Tensor, "3"]) -> tuple[Tensor, Tensor]:
        """The terms of the first layer and of the shortcut that all points of a volume share: two tensors [B,
        W]."""
        length = latent.shape[1]
        first, second = (
            functional.linear(latent, layer.weight[:, -length:], layer.bias) + layer.weight[:, :3] @ center
            for layer in (self.linear1, self.shortcut)
        )
        return first, second

    def enter(self, points: Float[Tensor, "B N F"], terms: tuple[Tensor, Tensor]) -> tuple[Hidden, Hidden]:
        """First linear layer and shortcut of centered coordinates and features."""
        hidden, residual = (
            _varying_part(points, layer.weight, term)
            for layer, term in zip((self.linear1, self.shortcut), terms, strict=True)
        )
        return hidden, residual


class Decoder(nn.Module):
    """Residual blocks over points; block j is conditioned on latent vector j, or all on the only one."""

    def __init__(self, config: OccupancyConfig) -> None:
        super().__init__()
        rest = (DecoderBlock(config) for _ in range(config.decoder_blocks - 1))
        self.blocks = nn.ModuleList((InputBlock(config), *rest))
        self.output = nn.Linear(config.decoder_width, config.outputs, bias=False)
        self.checkpointing = config.checkpoint_activations

    def _typed_blocks(self) -> tuple[InputBlock, *tuple[DecoderBlock, ...]]:
        return tuple(self.blocks)  # type: ignore[return-value]

    def forward(
        self, points: Float[Tensor, "B N F"], latent: Float[Tensor, "B D L"], center: Float[Tensor, "3"]
    ) -> Float[Tensor, "B N O"]:
        """Outputs of points given by coordinates measured from `center`, and features."""
        blocks = self._typed_blocks()
        vectors = latent.to(self.output.weight.dtype).unbind(1)
        own = vectors[1:] or vectors * len(blocks)
        with torch.autocast(points.device.type, enabled=False):
            terms = blocks[0].volume_terms(vectors[0], center)
            modulations = [block.modulations(vector) for block, vector in zip(blocks, own, strict=True)]
        if self.checkpointing and torch.is_grad_enabled():
            return self._recomputing(points, terms, modulations)
        layers = [*(block.linear1 for block in blocks[1:]), self.output]

        def outputs(points: Tensor) -> Tensor:
            hidden, residual = blocks[0].enter(points, terms)
            for block, modulation, layer in zip(blocks, modulations, layers, strict=True):
                following = Linear(layer.weight, layer.bias)
                residual, hidden = block(hidden, residual, modulation, following, last=layer is self.output)
            return hidden

        tied = self.training or torch.is_grad_enabled()
        return outputs(points) if tied else chunked(outputs, points)

    def _recomputing(
        self,
        points: Float[Tensor, "B N F"],
        terms: tuple[Tensor, Tensor],
        modulations: Sequence[tuple[Modulation, Modulation]],
    ) -> Float[Tensor, "B N O"]:
        """Compute the outputs with activation checkpointing: only the inputs of blocks are kept."""
        first, *rest = self._typed_blocks()
        output = Linear(self.output.weight, self.output.bias)

        def apply(block: DecoderBlock, modulation: tuple[Modulation, Modulation], entering: Tensor) -> Tensor:
            if isinstance(block, InputBlock):
                hidden, residual = block.enter(entering, terms)
            else:
                hidden, residual = block.linear1(entering), entering
            if block is self.blocks[-1]:
                return block(hidden, residual, modulation, output, last=True)[1]
            return block.features(hidden, residual, modulation)

        for block, modulation in zip((first, *rest), modulations, strict=True):
            points = checkpointed(block, partial(apply, block, modulation), points)
        return points


def _varying_part(
    points: Float[Tensor, "B N F"], weight: Float[Tensor, "W FL"], terms: Float[Tensor, "B W"]
) -> Float[Tensor, "B N W"]:
    """Multiply by the columns that vary from point to point; add what the volume gives."""
    matrix = weight[:, : points.shape[2]].to(points.dtype).t()
    return torch.baddbmm(terms.to(points.dtype).unsqueeze(1), points, matrix.expand(len(points), -1, -1))
