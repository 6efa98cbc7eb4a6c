"""The arithmetic of one tile: its interface, and the choice of eager torch or compiled loops.

Letters: G volumes of a tile (1) or planes, N rows, W columns.
"""

from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from ossnet.models.kernels._torch import operations_are_watched
from ossnet.models.kernels.pade import Coefficients


class TileInput(NamedTuple):
    """The input of an activation: `batch * scale + shift + residual`."""

    batch: Float[Tensor, "G N W"]
    scale: Float[Tensor, "1 1 W"] | None = None
    """Factor of the affine map; None, with `shift`, leaves the batch as it is."""
    shift: Float[Tensor, "1 1 W"] | None = None
    residual: Float[Tensor, "G N W"] | None = None


class TileGradients(NamedTuple):
    """The gradients of an activation's input and parameters, and the activation computed again."""

    activated: Float[Tensor, "G N W"]
    """The activation, in the batch's precision."""
    before: Float[Tensor, "G N W"]
    """The gradient of the activation's input."""
    coefficients: Float[Tensor, "10"]
    """The gradient of the Pade coefficients, of |b| for b."""
    beta: Float[Tensor, "G 1 W"]
    """Column sums of `before`."""
    gamma: Float[Tensor, "G 1 W"]
    """Column sums of `before` times the batch."""


class StatisticsGradient(NamedTuple):
    """The term that batch statistics add to a batch's gradient: `offset + slope * batch`."""

    offset: Tensor
    slope: Tensor


class Kernels(Protocol):
    """Arithmetic of tiles in float32 (float64 for float64 data), whatever their precision.

    A result may be overwritten by the next call of the same object.
    """

    def elements(self, device: torch.device) -> int:
        """The number of values in a tile at which this is fastest on a device."""

    def activate(
        self, tile_input: TileInput, coefficients: Coefficients, out: Tensor | None
    ) -> Float[Tensor, "G N W"]:
        """Apply the Pade unit, into `out` if that is given; the result has the batch's precision."""

    def differentiate(
        self,
        tile_input: TileInput,
        coefficients: Coefficients,
        gradients: tuple[Tensor | None, Tensor | None],
    ) -> TileGradients:
        """Differentiate `activate`; the gradient of its result is the sum of `gradients`."""

    def scale_gradient(
        self,
        batch: Tensor,
        gradient: Tensor,
        gain: Tensor,
        correction: StatisticsGradient | None,
        out: Tensor,
    ) -> None:
        """Compute `gradient * gain` plus the correction into `out`, which may be the gradient itself."""

    def moments(self, batch: Float[Tensor, "1 N W"], axes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """A rough mean over some axes, and the sums of the deviations from it and of their squares.

        The axes stay, with length 1.
        """


def kernels(*, compiled: bool) -> Kernels:
    """Compiled kernels where they are requested and no dispatch mode must see each operation, else eager."""
    if compiled and not operations_are_watched():
        from ossnet.models.kernels.compiled import CompiledKernels

        return CompiledKernels()
    from ossnet.models.kernels.eager import EagerKernels

    return EagerKernels()
