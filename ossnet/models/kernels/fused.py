"""Normalize, add a residual, activate, apply a linear layer: one operation that saves only its inputs.

A plain composition saves the standardized, modulated and activated tensors for the backward pass; here they
are recomputed, tile by tile in cache, from the input. Values and gradients are the same.

Letters: B batch, N rows (points, or groups of voxels), W columns (features, or the channels of those voxels),
O outputs of the linear layer.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ossnet.models.kernels.base import Kernels, StatisticsGradient, TileGradients, TileInput, kernels
from ossnet.models.kernels.normalization import Modulation, Standardization
from ossnet.models.kernels.pade import Coefficients, Pade
from ossnet.models.kernels.precision import working_dtype
from ossnet.models.kernels.statistics import fold, sum_over_ranks, unfold
from ossnet.models.kernels.tiles import Tile, pick, tiles


class Linear(NamedTuple):
    """The matrix and bias of a linear layer."""

    weight: Float[Tensor, "O W"]
    bias: Float[Tensor, "O"] | None


def fused_activation(
    batch: Float[Tensor, "B N W"],
    activation: Pade,
    standardization: Standardization,
    modulation: Modulation,
    *,
    residual: Float[Tensor, "B N W"] | None = None,
    owns_gradient: bool = False,
    donate_input: bool = False,
    recompute: Callable[[], Float[Tensor, "B N W"]] | None = None,
) -> Float[Tensor, "B N W"]:
    """Compute `pade(gamma * standardized(batch) + beta + residual)`.

    Args:
        batch: the input; saved for the backward pass.
        activation: the Pade unit.
        standardization: mean and deviation of the batch's columns; the gradient includes that of batch
            statistics.
        modulation: gain and offset of each column, one row for all volumes or one per volume.
        residual: added before the activation; saved too.
        owns_gradient: the result's gradient is a tensor that nobody else uses, so that the backward pass may
            overwrite it. Never true of what a caller of the network sees.
        donate_input: nobody needs the batch any more, nor gradients: the result overwrites it.
        recompute: makes the batch again in the backward pass, so that it need not be saved.
    """
    return _apply(
        batch,
        activation,
        standardization,
        modulation,
        residual,
        None,
        keep=True,
        owns_gradient=owns_gradient,
        donate_input=donate_input,
        recompute=recompute,
    )[0]


def fused_linear(
    batch: Float[Tensor, "B N W"],
    activation: Pade,
    standardization: Standardization,
    modulation: Modulation,
    linear: Linear,
    *,
    residual: Float[Tensor, "B N W"] | None = None,
    keep: bool = False,
    owns_gradient: bool = False,
) -> tuple[Float[Tensor, "B N W"], Float[Tensor, "B N O"]]:
    """Compute `fused_activation` and the linear layer that follows.

    The activated batch is recomputed for the layer's gradient, so that it takes memory only if it is kept.

    Returns:
        The activated batch, empty unless `keep`, and the layer's output.
    """
    return _apply(
        batch,
        activation,
        standardization,
        modulation,
        residual,
        linear,
        keep=keep,
        owns_gradient=owns_gradient,
    )


def _apply(
    batch: Tensor,
    activation: Pade,
    standardization: Standardization,
    modulation: Modulation,
    residual: Tensor | None,
    linear: Linear | None,
    *,
    keep: bool,
    owns_gradient: bool,
    donate_input: bool = False,
    recompute: Callable[[], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    dtype = working_dtype(batch)
    with torch.autocast(batch.device.type, enabled=False):
        return _FusedActivation.apply(
            batch.contiguous(),
            modulation.gamma.to(dtype),
            modulation.beta.to(dtype),
            None if residual is None else residual.to(batch.dtype).contiguous(),
            activation.numerator,
            activation.denominator,
            None if linear is None else linear.weight,
            None if linear is None else linear.bias,
            standardization,
            keep,
            owns_gradient,
            donate_input,
            activation.compiled,
            recompute,
        )


class _FusedActivation(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        batch: Tensor,
        gamma: Tensor,
        beta: Tensor,
        residual: Tensor | None,
        numerator: Tensor,
        denominator: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        standardization: Standardization,
        keep: bool,
        owns_gradient: bool,
        donate_input: bool,
        compiled: bool,
        recompute: Callable[[], Tensor] | None,
    ) -> tuple[Tensor, Tensor]:
        kept = batch if recompute is None else None
        ctx.save_for_backward(kept, gamma, beta, residual, numerator, denominator, weight)
        ctx.standardization, ctx.keep, ctx.owns_gradient, ctx.has_bias = (
            standardization,
            keep,
            owns_gradient,
            bias is not None,
        )
        ctx.compiled, ctx.recompute = compiled, recompute
        ctx.set_materialize_grads(False)
        entry = _Entry.of(batch, gamma, beta, residual, standardization)
        coefficients = Coefficients.of(numerator, denominator, working_dtype(batch))
        activated = batch if donate_input else batch.new_empty(batch.shape if keep else 0)
        mapped = batch.new_empty(0 if weight is None else (*batch.shape[:2], len(weight)))
        matrix = None if weight is None else weight.to(batch.dtype).t()
        offset = None if bias is None else bias.to(batch.dtype)
        arithmetic = kernels(compiled=compiled)
        for tile in tiles(batch, arithmetic.elements(batch.device)):
            out = activated[tile] if keep else None
            values = arithmetic.activate(entry.tile_input(tile), coefficients, out)
            if matrix is not None:
                _linear(values[0], matrix, offset, mapped[tile][0])
            del values  # no two tiles live at once
        return activated, mapped

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, activated: Tensor | None, mapped: Tensor | None) -> tuple[Tensor | None, ...]:
        batch, gamma, beta, residual, numerator, denominator, weight = ctx.saved_tensors
        if ctx.recompute is not None:
            batch = ctx.recompute()
        mean, inverse, statistics, values = ctx.standardization
        entry = _Entry.of(batch, gamma, beta, residual, ctx.standardization)
        coefficients = Coefficients.of(numerator, denominator, working_dtype(batch))
        outer = _Outer.of(activated if ctx.keep else None, mapped, weight, batch.dtype)
        spare = outer.spare(batch) if ctx.owns_gradient else []
        slope = spare.pop() if spare else torch.empty_like(batch)
        arithmetic = kernels(compiled=ctx.compiled)
        sums = _through_activation(arithmetic, entry, coefficients, outer, slope)
        gamma_gradient = (sums.gamma - mean.double() * sums.beta) * inverse.double()
        correction = None
        if values is not None:
            means = _means(gamma.double(), gamma_gradient, sums.beta, statistics, values)
            correction = _correction(mean, inverse, *means)
        batch_gradient = slope
        if residual is not None:
            batch_gradient = spare.pop() if spare else torch.empty_like(batch)
        _through_statistics(arithmetic, batch, slope, gamma * inverse, correction, out=batch_gradient)
        return (
            batch_gradient,
            gamma_gradient.to(gamma.dtype),
            sums.beta.to(beta.dtype),
            None if residual is None else slope,
            sums.coefficients[:6].to(numerator.dtype),
            (sums.coefficients[6:] * denominator.sgn()).to(denominator.dtype),
            sums.weight,
            sums.bias if ctx.has_bias else None,
            None,
            None,
            None,
            None,
            None,
            None,
        )


class _Entry(NamedTuple):
    """The input of the activation: the batch with one gain and one offset per column, and the residual."""

    batch: Tensor
    scale: Tensor
    shift: Tensor
    residual: Tensor | None

    @classmethod
    def of(
        cls,
        batch: Tensor,
        gamma: Tensor,
        beta: Tensor,
        residual: Tensor | None,
        standardization: Standardization,
    ) -> "_Entry":
        scale = gamma * standardization.inverse_deviation
        return cls(batch, scale, beta - scale * standardization.mean, residual)

    def tile_input(self, tile: Tile) -> TileInput:
        residual = None if self.residual is None else self.residual[tile]
        return TileInput(self.batch[tile], pick(self.scale, tile), pick(self.shift, tile), residual)


class _Outer(NamedTuple):
    """The gradient of the activation's result: its own, that through the linear layer, or both."""

    activated: Tensor | None
    mapped: Tensor | None
    matrix: Tensor | None

    @classmethod
    def of(
        cls, activated: Tensor | None, mapped: Tensor | None, weight: Tensor | None, dtype: torch.dtype
    ) -> "_Outer":
        matrix = None if weight is None or mapped is None else weight.to(dtype)
        return cls(
            None if activated is None else activated.contiguous(),
            None if matrix is None or mapped is None else mapped.contiguous(),
            matrix,
        )

    def spare(self, like: Tensor) -> list[Tensor]:
        """The gradients that may be overwritten once read: those of the batch's shape and precision."""
        given = [each for each in (self.activated, self.mapped) if each is not None]
        return [each for each in given if each.shape == like.shape and each.dtype == like.dtype]

    def terms(self, tile: Tile) -> tuple[Tensor | None, Tensor | None]:
        """A tile's own gradient and the one through the linear layer; None for one that does not exist."""
        own = None if self.activated is None else self.activated[tile]
        if self.mapped is None or self.matrix is None:
            return own, None
        return own, self.mapped[tile] @ self.matrix


class _Sums(NamedTuple):
    """Sums over the batch for the gradients of parameters, in float64 where they nearly cancel."""

    coefficients: Tensor
    """Gradient of the ten Pade coefficients."""
    beta: Tensor
    """Column sums of the gradient before the activation."""
    gamma: Tensor
    """Column sums of the gradient before the activation times the batch."""
    weight: Tensor | None
    """Gradient of the linear layer's matrix."""
    bias: Tensor | None
    """Gradient of the linear layer's bias."""

    @classmethod
    def zeros(cls, entry: _Entry, outer: _Outer) -> "_Sums":
        columns = torch.zeros(2, *entry.scale.shape, dtype=torch.float64, device=entry.batch.device)
        matrix, dtype = outer.matrix, working_dtype(entry.batch)
        return cls(
            columns.new_zeros(10),
            columns[0],
            columns[1],
            None if matrix is None else torch.zeros_like(matrix, dtype=dtype),
            None if matrix is None else columns.new_zeros(len(matrix), dtype=dtype),
        )

    def add(self, tile: Tile, gradients: TileGradients) -> None:
        """Add one tile of the activation."""
        self.coefficients.add_(gradients.coefficients)
        pick(self.beta, tile).add_(gradients.beta)
        pick(self.gamma, tile).add_(gradients.gamma)

    def add_linear(self, mapped: Float[Tensor, "N O"], activated: Float[Tensor, "N W"]) -> None:
        """Add one tile of the linear layer, in the precision of its products."""
        assert self.weight is not None
        assert self.bias is not None
        if mapped.dtype == self.weight.dtype:
            self.weight.addmm_(mapped.t(), activated)
        else:
            self.weight.add_(mapped.t() @ activated)
        self.bias.add_(mapped.sum(0))


def _linear(values: Tensor, matrix: Tensor, offset: Tensor | None, out: Tensor) -> None:
    if offset is None:
        torch.mm(values, matrix, out=out)
    else:
        torch.addmm(offset, values, matrix, out=out)


def _through_activation(
    arithmetic: Kernels, entry: _Entry, coefficients: Coefficients, outer: _Outer, slope: Tensor
) -> _Sums:
    """Fill `slope` with the gradient before the activation; return the sums for parameters' gradients."""
    sums = _Sums.zeros(entry, outer)
    for tile in tiles(entry.batch, arithmetic.elements(entry.batch.device)):
        gradients = arithmetic.differentiate(entry.tile_input(tile), coefficients, outer.terms(tile))
        sums.add(tile, gradients)
        if outer.mapped is not None:
            sums.add_linear(outer.mapped[tile][0], gradients.activated[0])
        slope[tile] = gradients.before  # may overwrite the gradient
        del gradients  # no two tiles live at once
    return sums


def _means(
    gamma: Tensor, gamma_gradient: Tensor, beta_gradient: Tensor, statistics: int, values: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Means over what shares a statistic: of the standardized gradient, and of it times the batch."""
    sums = torch.stack([fold(gamma * beta_gradient, statistics), fold(gamma * gamma_gradient, statistics)])
    first, second = sum_over_ranks(sums) / values
    return unfold(first, gamma.shape[2]), unfold(second, gamma.shape[2])


def _correction(mean: Tensor, inverse: Tensor, first: Tensor, second: Tensor) -> StatisticsGradient:
    """The term that batch statistics add to the batch's gradient, from d, that of the standardized batch n.

    The batch's gradient is inverse * (d - mean(d) - n mean(d n)).
    """
    slope = -inverse.double().square() * second
    offset = -inverse * first - slope * mean
    return StatisticsGradient(offset.to(mean.dtype), slope.to(mean.dtype))


def _through_statistics(
    arithmetic: Kernels,
    batch: Tensor,
    gradient: Tensor,
    gain: Tensor,
    correction: StatisticsGradient | None,
    *,
    out: Tensor,
) -> None:
    """Fill `out`, perhaps the gradient itself, with the batch's from that before the activation."""
    for tile in tiles(batch, arithmetic.elements(batch.device)):
        arithmetic.scale_gradient(batch[tile], gradient[tile], pick(gain, tile), correction, out[tile])
