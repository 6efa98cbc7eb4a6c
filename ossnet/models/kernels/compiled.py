"""Arithmetic of tiles as loops that torch's compiler makes: one pass over memory for a chain of operations.

On CPUs the compiler needs a C++ compiler, on GPUs Triton. Its modules take seconds to import, so that is left
until a first tile comes.

Letters: N rows, W columns.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ossnet.models.kernels.base import StatisticsGradient, TileGradients, TileInput
from ossnet.models.kernels.pade import Coefficients
from ossnet.models.kernels.tiles import working_dtype

_CPU_ELEMENTS = 1 << 18
_DEVICE_ELEMENTS = 1 << 21
_VARIANTS = 64  # kinds of call a function is compiled for: precisions, residuals, shapes of one row, ...


class CompiledKernels:
    """Each kind of call is compiled when it first comes."""

    def elements(self, device: torch.device) -> int:
        """Enough that the tens of microseconds of a call do not count."""
        return _CPU_ELEMENTS if device.type == "cpu" else _DEVICE_ELEMENTS

    def activate(self, piece: TileInput, unit: Coefficients, out: Tensor | None) -> Tensor:
        """As in `Kernels`."""
        activated: Tensor = _compiled(_activate)(*piece, unit.numerator, unit.denominator)
        return activated if out is None else out.copy_(activated)

    def differentiate(
        self, piece: TileInput, unit: Coefficients, gradients: tuple[Tensor | None, Tensor | None]
    ) -> TileGradients:
        """As in `Kernels`."""
        activated, before, sums, beta, gamma = _compiled(_differentiate)(
            *piece, unit.numerator, unit.denominator, *gradients
        )
        return TileGradients(activated, before, sums.double().sum((1, 2)), beta, gamma)

    def scale_gradient(
        self,
        batch: Tensor,
        gradient: Tensor,
        gain: Tensor,
        correction: StatisticsGradient | None,
        out: Tensor,
    ) -> None:
        """As in `Kernels`."""
        out.copy_(_compiled(_bend)(batch, gradient, gain, *(correction or (None, None))))

    def moments(self, batch: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """As in `Kernels`."""
        rough, total, squares = _compiled(_moments)(batch, axes)
        return rough, total, squares


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    import torch._dynamo

    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, _VARIANTS)
    return torch.compile(function, dynamic=True, fullgraph=True)


def _activate(
    batch: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    residual: Tensor | None,
    numerator: Tensor,
    denominator: Tensor,
) -> Tensor:
    x = _enter(batch, scale, shift, residual)
    above, _ = _horner(x, numerator.unbind())
    below, _ = _horner(x.abs(), (torch.ones_like(numerator[0]), *denominator.unbind()))
    return (above / below).to(batch.dtype)


def _differentiate(
    batch: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    residual: Tensor | None,
    numerator: Tensor,
    denominator: Tensor,
    first: Tensor | None,
    second: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    x = _enter(batch, scale, shift, residual)
    size, square = x.abs(), x * x
    above, above_slope = _horner(x, numerator.unbind())
    below, below_slope = _horner(size, (torch.ones_like(numerator[0]), *denominator.unbind()))
    inverse = 1 / below
    value = above * inverse
    weight = _sum(first, second, x) * inverse
    before = (above_slope - x.sgn() * below_slope * value) * weight
    under = -weight * value
    cube, fourth = square * size, square * square
    powers = [weight, weight * x, weight * square, weight * square * x, weight * fourth, weight * fourth * x]
    powers += [under * size, under * square, under * cube, under * fourth]
    return (
        value.to(batch.dtype),
        before.to(batch.dtype),
        torch.stack([power.sum(1) for power in powers]),
        before.sum(1, keepdim=True),
        (before * batch).sum(1, keepdim=True),
    )


def _bend(
    batch: Tensor, gradient: Tensor, gain: Tensor, offset: Tensor | None, slope: Tensor | None
) -> Tensor:
    bent = gradient * gain
    if offset is not None and slope is not None:
        bent = bent + offset + batch * slope
    return bent.to(batch.dtype)


def _moments(batch: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    values = batch.to(working_dtype(batch))
    rough = values.mean(axes, keepdim=True)
    centered = values - rough
    return rough, centered.sum(axes, keepdim=True), centered.square().sum(axes, keepdim=True)


def _enter(batch: Tensor, scale: Tensor | None, shift: Tensor | None, residual: Tensor | None) -> Tensor:
    x = batch.to(working_dtype(batch))
    if scale is not None and shift is not None:
        x = x * scale + shift
    return x if residual is None else x + residual


def _sum(first: Tensor | None, second: Tensor | None, like: Tensor) -> Tensor:
    if first is None or second is None:
        given = second if first is None else first
        return torch.zeros_like(like) if given is None else given.to(like.dtype)
    return first.to(like.dtype) + second


def _horner(x: Tensor, coefficients: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """c0 + c1 x + c2 x^2 + ..., and its derivative."""
    *lower, second, highest = coefficients
    value = x * highest + second
    slope = x * highest + value
    for coefficient in reversed(lower[1:]):
        value = value * x + coefficient
        slope = slope * x + value
    return value * x + lower[0], slope
