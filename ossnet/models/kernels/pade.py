"""The Pade activation unit: a learnable rational function, evaluated and differentiated in few passes.

f(x) = (a0 + a1 x + ... + a5 x^5) / (1 + |b1||x| + ... + |b4||x|^4)     (spec: "version A", safe)

Six coefficients above, four below, shared over a layer; ten parameters a unit (Molina et al. 2020). Initially
the published fit to a leaky ReLU of slope 0.01 over [-3, 3].
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

_NUMERATOR = (3.35583603e-02, 5.05000375e-01, 1.65343934e00, 2.01001052e00, 9.31901999e-01, 1.52424124e-01)
_DENOMINATOR = (3.30847488e-06, 3.98021568e00, 5.12471206e-07, 3.01830109e-01)


class Pade(nn.Module):
    """The ten coefficients of one activation; `fused.py` applies them."""

    compiled = False
    """Whether `compiled.py` computes it; see `compile_arithmetic`."""

    def __init__(self) -> None:
        super().__init__()
        self.numerator = nn.Parameter(torch.tensor(_NUMERATOR))
        self.denominator = nn.Parameter(torch.tensor(_DENOMINATOR))


class Coefficients(NamedTuple):
    """Coefficients in the precision of the arithmetic, on the device of the data."""

    numerator: Float[Tensor, "6"]
    """The coefficients a0 to a5."""
    denominator: Float[Tensor, "4"]
    """The coefficients |b1| to |b4|."""

    @classmethod
    def of(cls, numerator: Tensor, denominator: Tensor, dtype: torch.dtype) -> "Coefficients":
        """Prepare a unit's parameters for arithmetic in `dtype`."""
        return cls(numerator.detach().to(dtype), denominator.detach().abs().to(dtype))

    @property
    def above(self) -> tuple[Tensor, ...]:
        """The numerator's coefficients as zero-dimensional tensors, which broadcast without leaving the
        device."""
        return self.numerator.unbind()

    @property
    def below(self) -> tuple[Tensor, ...]:
        """The denominator's coefficients 1, |b1| to |b4|, as zero-dimensional tensors."""
        return torch.ones_like(self.denominator[0]), *self.denominator.unbind()


def _horner(x: Tensor, coefficients: tuple[Tensor, ...], out: Tensor) -> Tensor:
    """Evaluate the polynomial c0 + c1 x + c2 x^2 + ... into `out`."""
    *lower, second, highest = coefficients
    torch.mul(x, highest, out=out).add_(second)
    for coefficient in reversed(lower):
        torch.addcmul(coefficient, out, x, out=out)
    return out


def _horner_slope(x: Tensor, coefficients: tuple[Tensor, ...], out: Tensor, slope: Tensor) -> None:
    """Evaluate the polynomial and its derivative: each step adds to the derivative the value so far."""
    *lower, second, highest = coefficients
    torch.mul(x, highest, out=out).add_(second)
    torch.addcmul(out, x, highest, out=slope)
    for coefficient in reversed(lower[1:]):
        torch.addcmul(coefficient, out, x, out=out)
        torch.addcmul(out, slope, x, out=slope)
    torch.addcmul(lower[0], out, x, out=out)


def evaluate(x: Tensor, coefficients: Coefficients, out: Tensor, scratch: list[Tensor]) -> Tensor:
    """Evaluate f(x), elementwise, into `out`; needs two buffers, and `x` and `out` apart."""
    size, below = scratch
    _horner(x, coefficients.above, out)
    _horner(torch.abs(x, out=size), coefficients.below, below)
    return out.div_(below)


def differentiate(
    x: Tensor, gradient: Tensor, coefficients: Coefficients, out: Tensor, scratch: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """The gradients of x, into `out`, and of the ten coefficients (of |b| for b), from a gradient of f(x).

    With f = P / Q: df/dx = (P' - f Q') / Q, df/da_i = x^i / Q, df/d|b_k| = -f |x|^k / Q. Needs four buffers,
    the first of which is left holding f(x).
    """
    value, weight, size, slope = scratch
    torch.abs(x, out=size)
    _horner_slope(size, coefficients.below, weight, slope)
    slope.mul_(torch.sgn(x, out=out))
    _horner_slope(x, coefficients.above, value, out)
    value.div_(weight)
    torch.div(gradient, weight, out=weight)
    out.sub_(slope.mul_(value)).mul_(weight)
    torch.mul(weight, value, out=slope)
    return out, _coefficient_gradient(x.view(-1), size.view(-1), weight.view(-1), slope.view(-1))


def _coefficient_gradient(x: Tensor, size: Tensor, weight: Tensor, below: Tensor) -> Tensor:
    """Sums of weight x^i (i = 0..5) and of -below |x|^k (k = 1..4); destroys `weight` and `below`."""
    square = size * size
    sums = [weight.sum(), torch.dot(weight, x), torch.dot(weight, square)]
    weight.mul_(square)
    sums += [torch.dot(weight, x), torch.dot(weight, square), torch.dot(weight.mul_(square), x)]
    under = [torch.dot(below, size), torch.dot(below, square)]
    below.mul_(square)
    under += [torch.dot(below, size), torch.dot(below, square)]
    return torch.cat([torch.stack(sums), torch.stack(under).neg_()])
