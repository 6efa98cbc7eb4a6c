"""A convolution of the patch encoder with its activation, on patches laid out plane by plane.

Letters: m points at a time, P patch edge, R products of a transform; S numbers of a plane that comes in, T of
one that goes out.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from ossnet.models.kernels.base import Kernels, TileGradients, TileInput, kernels
from ossnet.models.kernels.pade import Coefficients
from ossnet.models.kernels.patches.toeplitz import Transform


class PlaneLayer(NamedTuple):
    """A convolution and its activation, ready for arithmetic."""

    matrices: Float[Tensor, "R S T"]
    bias: Float[Tensor, "T"]
    coefficients: Coefficients
    transform: Transform
    kernels: Kernels

    @classmethod
    def of(
        cls,
        parameters: tuple[Tensor, ...],
        transform: Transform,
        dtype: torch.dtype,
        *,
        compiled: bool,
    ) -> "PlaneLayer":
        """Prepare matrices, bias, and the Pade unit's numerator and denominator; products run in `dtype`."""
        matrices, bias, numerator, denominator = parameters
        plane = matrices.shape[2] // len(bias)
        coefficients = Coefficients.of(numerator, denominator, matrices.dtype)
        wide = bias.repeat_interleave(plane)
        return cls(matrices.to(dtype), wide, coefficients, transform, kernels(compiled=compiled))

    def mix(self, planes: Float[Tensor, "P m S"]) -> Float[Tensor, "R m S"]:
        """The planes as the matrices take them: transformed, and in the precision of products."""
        return _mix(self.transform.analysis, planes).to(self.matrices)

    def convolve(self, mixed: Float[Tensor, "R m S"]) -> Float[Tensor, "P m T"]:
        """The convolution, with its bias, of planes that `mix` transformed."""
        products = torch.bmm(mixed, self.matrices)
        return _mix(self.transform.synthesis, products.to(self.transform.synthesis)).add_(self.bias)

    def activate(self, planes: Float[Tensor, "P m T"]) -> Float[Tensor, "P m T"]:
        """The activation of what `convolve` gave."""
        return self.kernels.activate(TileInput(planes), self.coefficients, None)

    def activation_gradient(
        self, planes: Float[Tensor, "P m T"], gradient: Float[Tensor, "P m T"]
    ) -> TileGradients:
        """The gradients of the activation's input and parameters from that of its output."""
        return self.kernels.differentiate(TileInput(planes), self.coefficients, (gradient, None))

    def planes_gradient(self, gradient: Float[Tensor, "R m T"]) -> Float[Tensor, "P m S"]:
        """The gradient of the planes from that of the products."""
        mixed = torch.bmm(gradient, self.matrices.transpose(1, 2))
        return _mix(self.transform.analysis.t(), mixed.to(self.transform.analysis))

    def products_gradient(self, gradient: Float[Tensor, "P m T"]) -> Float[Tensor, "R m T"]:
        """The gradient of the products from that of the convolution."""
        return _mix(self.transform.synthesis.t(), gradient).to(self.matrices)

    def add_matrices_gradient(
        self, total: Float[Tensor, "R S T"], mixed: Float[Tensor, "R m S"], gradient: Float[Tensor, "R m T"]
    ) -> None:
        """Add to a sum the gradient of the matrices, from what `mix` gave and that of the products."""
        if total.dtype == mixed.dtype:
            total.baddbmm_(mixed.transpose(1, 2), gradient)
        else:
            total.add_(torch.bmm(mixed.transpose(1, 2), gradient))


def _mix(matrix: Float[Tensor, "R P"], planes: Float[Tensor, "P m S"]) -> Float[Tensor, "R m S"]:
    """Linear combinations of planes."""
    return torch.mm(matrix, planes.flatten(1)).view(len(matrix), *planes.shape[1:])
