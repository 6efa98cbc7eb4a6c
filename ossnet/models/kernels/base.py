"""What is computed of one tile, by eager torch (`eager.py`) or by compiled loops (`compiled.py`).

Letters: N rows, W columns.
"""

from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ossnet.models.kernels.pade import Coefficients


class TileInput(NamedTuple):
    """What enters an activation: a batch, by one gain and one offset a column, and a residual."""

    batch: Float[Tensor, "G N W"]
    scale: Float[Tensor, "1 1 W"] | None = None
    """With `shift`; None leaves the batch as it is."""
    shift: Float[Tensor, "1 1 W"] | None = None
    residual: Float[Tensor, "G N W"] | None = None


class TileGradients(NamedTuple):
    """What an activation's gradient leads to."""

    activated: Float[Tensor, "G N W"]
    """The activation again, in the batch's precision."""
    before: Float[Tensor, "G N W"]
    """Gradient before the activation."""
    coefficients: Float[Tensor, "10"]
    """Gradient of the Pade coefficients, of |b| for b."""
    beta: Float[Tensor, "G 1 W"]
    """Column sums of `before`."""
    gamma: Float[Tensor, "G 1 W"]
    """Column sums of `before` times the batch."""


class StatisticsGradient(NamedTuple):
    """What batch statistics add to a gradient: offset + slope * batch."""

    offset: Tensor
    slope: Tensor


class Kernels(Protocol):
    """Arithmetic of tiles in float32 (float64 for float64 data), whatever their precision.

    A result may be overwritten by the next call of the same object.
    """

    def elements(self, device: torch.device) -> int:
        """Numbers to a tile, at which this is fastest."""

    def activate(self, piece: TileInput, unit: Coefficients, out: Tensor | None) -> Float[Tensor, "G N W"]:
        """The Pade unit of what enters, in the batch's precision; `out` if it is given."""

    def differentiate(
        self, piece: TileInput, unit: Coefficients, gradients: tuple[Tensor | None, Tensor | None]
    ) -> TileGradients:
        """Undo `activate`: its gradient is the sum of what is given."""

    def scale_gradient(
        self,
        batch: Tensor,
        gradient: Tensor,
        gain: Tensor,
        correction: StatisticsGradient | None,
        out: Tensor,
    ) -> None:
        """Into `out`, which may be the gradient: `gradient * gain`, and the correction."""

    def moments(self, batch: Float[Tensor, "1 N W"], axes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Over some axes, which stay with length 1: a rough mean, and sums of what is left without it and of
        its square."""
