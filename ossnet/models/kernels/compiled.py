"""Arithmetic of tiles as loops that torch's compiler makes: one pass over memory for a chain of operations.

On CPUs the compiler needs a C++ compiler, on GPUs Triton. Its modules take seconds to import, so they are
imported when a first tile comes.

Letters: N rows, W columns.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from ossnet.models.kernels._torch import allow_recompilations
from ossnet.models.kernels.base import StatisticsGradient, TileGradients, TileInput
from ossnet.models.kernels.normalization import BatchStatistics
from ossnet.models.kernels.pade import Coefficients, Pade
from ossnet.models.kernels.precision import working_dtype

_CPU_ELEMENTS = 1 << 18
_DEVICE_ELEMENTS = 1 << 21
_VARIANTS = 64  # kinds of call a function is compiled for: precisions, residuals, shapes of one row, ...


def compile_arithmetic(network: nn.Module) -> None:
    """Switch a network's normalization and activation to compiled loops, in place.

    A network without such units stays as it is. Values and gradients are the same up to rounding. Loops are
    compiled when they are first needed, in some seconds each, and kept on disk by torch for later processes.

    Raises:
        RuntimeError: the compiler does not work here; says what it lacks.
    """
    units = [module for module in network.modules() if isinstance(module, Pade | BatchStatistics)]
    if not units:
        return
    device = next(network.parameters()).device
    try:
        CompiledKernels().moments(torch.zeros(1, 2, 3, device=device), (1,))
    except Exception as error:  # torch's compiler fails in many ways
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        needed = "a C++ compiler" if device.type == "cpu" else "Triton"
        msg = f"torch.compile does not work here ({reason}): install {needed}, or leave compile out"
        raise RuntimeError(msg) from error
    for unit in units:
        unit.compiled = True


class CompiledKernels:
    """Kernels that compile each kind of call when it first comes."""

    def elements(self, device: torch.device) -> int:
        """Enough values that the tens of microseconds of a call do not count."""
        return _CPU_ELEMENTS if device.type == "cpu" else _DEVICE_ELEMENTS

    def activate(self, tile_input: TileInput, coefficients: Coefficients, out: Tensor | None) -> Tensor:
        activated: Tensor = _compiled(_activate)(*tile_input, *coefficients)
        return activated if out is None else out.copy_(activated)

    def differentiate(
        self,
        tile_input: TileInput,
        coefficients: Coefficients,
        gradients: tuple[Tensor | None, Tensor | None],
    ) -> TileGradients:
        activated, before, sums, beta, gamma = _compiled(_differentiate)(
            *tile_input, *coefficients, *gradients
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
        out.copy_(_compiled(_scale_gradient)(batch, gradient, gain, *(correction or (None, None))))

    def moments(self, batch: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
        rough, total, squares = _compiled(_moments)(batch, axes)
        return rough, total, squares


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    allow_recompilations(_VARIANTS)
    return torch.compile(function, dynamic=True, fullgraph=True)


def _activate(
    batch: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    residual: Tensor | None,
    numerator: Tensor,
    denominator: Tensor,
) -> Tensor:
    x = _activation_input(batch, scale, shift, residual)
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
    x = _activation_input(batch, scale, shift, residual)
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


def _scale_gradient(
    batch: Tensor, gradient: Tensor, gain: Tensor, offset: Tensor | None, slope: Tensor | None
) -> Tensor:
    scaled = gradient * gain
    if offset is not None and slope is not None:
        scaled = scaled + offset + batch * slope
    return scaled.to(batch.dtype)


def _moments(batch: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    values = batch.to(working_dtype(batch))
    rough = values.mean(axes, keepdim=True)
    centered = values - rough
    return rough, centered.sum(axes, keepdim=True), centered.square().sum(axes, keepdim=True)


def _activation_input(
    batch: Tensor, scale: Tensor | None, shift: Tensor | None, residual: Tensor | None
) -> Tensor:
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
    """The polynomial c0 + c1 x + c2 x^2 + ... and its derivative."""
    *lower, second, highest = coefficients
    value = x * highest + second
    slope = x * highest + value
    for coefficient in reversed(lower[1:]):
        value = value * x + coefficient
        slope = slope * x + value
    return value * x + lower[0], slope
