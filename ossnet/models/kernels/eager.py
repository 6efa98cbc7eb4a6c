"""Arithmetic of tiles by eager torch: a chain of operations in buffers that stay in a core's cache.

Letters: N rows, W columns.
"""

import torch
from torch import Tensor

from ossnet.models.kernels.base import StatisticsGradient, TileGradients, TileInput
from ossnet.models.kernels.pade import Coefficients, differentiate, evaluate
from ossnet.models.kernels.tiles import load, working_dtype

_CPU_ELEMENTS = 1 << 16
_DEVICE_ELEMENTS = 1 << 21


class EagerKernels:
    """Reuses its buffers from call to call."""

    def __init__(self) -> None:
        self._memory = torch.empty(0, 0)

    def elements(self, device: torch.device) -> int:
        """A quarter of a MiB in float32 on CPUs."""
        return _CPU_ELEMENTS if device.type == "cpu" else _DEVICE_ELEMENTS

    def activate(self, piece: TileInput, unit: Coefficients, out: Tensor | None) -> Tensor:
        """As in `Kernels`."""
        first, second, *scratch = self._buffers(piece.batch, 4)
        values = evaluate(_enter(piece, first), unit, _target(out, second), scratch)
        return values.to(piece.batch.dtype) if out is None else _store(values, out)

    def differentiate(
        self, piece: TileInput, unit: Coefficients, gradients: tuple[Tensor | None, Tensor | None]
    ) -> TileGradients:
        """As in `Kernels`."""
        first, second, out, *scratch = self._buffers(piece.batch, 7)
        gradient = _add(gradients, second)
        before, coefficients = differentiate(_enter(piece, first), gradient, unit, out, scratch)
        products = torch.mul(before, piece.batch, out=scratch[1])
        return TileGradients(
            scratch[0].to(piece.batch.dtype),
            before,
            coefficients,
            before.sum(1, keepdim=True),
            products.sum(1, keepdim=True),
        )

    def scale_gradient(
        self,
        batch: Tensor,
        gradient: Tensor,
        gain: Tensor,
        correction: StatisticsGradient | None,
        out: Tensor,
    ) -> None:
        """As in `Kernels`."""
        first, second, third = self._buffers(batch, 3)
        values = torch.mul(load(gradient, first), gain, out=_target(out, second))
        if correction is not None:
            values.add_(correction.offset).addcmul_(load(batch, third), correction.slope)
        _store(values, out)

    def moments(self, batch: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """As in `Kernels`."""
        buffer, centered = self._buffers(batch, 2)
        values = load(batch, buffer)
        rough = values.mean(axes, keepdim=True)
        total = torch.sub(values, rough, out=centered).sum(axes, keepdim=True)
        return rough, total, centered.square_().sum(axes, keepdim=True)

    def _buffers(self, like: Tensor, count: int) -> list[Tensor]:
        """So many tensors of a shape, in the arithmetic precision."""
        size = like.numel()
        if self._memory.shape[0] < count or self._memory.shape[1] < size:
            self._memory = torch.empty(count, size, dtype=working_dtype(like), device=like.device)
        return [each[:size].view(like.shape) for each in self._memory[:count]]


def _enter(piece: TileInput, buffer: Tensor) -> Tensor:
    """What enters the activation, perhaps in the buffer."""
    values = load(piece.batch, buffer)
    if piece.scale is not None and piece.shift is not None:
        values = torch.addcmul(piece.shift, values, piece.scale, out=buffer)
    return values if piece.residual is None else torch.add(values, piece.residual, out=buffer)


def _target(out: Tensor | None, buffer: Tensor) -> Tensor:
    """Where to compute: in place if the precision allows, else in the buffer."""
    return buffer if out is None or out.dtype != buffer.dtype else out


def _store(values: Tensor, out: Tensor) -> Tensor:
    """What `_target` made to be computed elsewhere, in its place."""
    return out if values is out else out.copy_(values)


def _add(gradients: tuple[Tensor | None, Tensor | None], buffer: Tensor) -> Tensor:
    first, second = gradients
    if first is None or second is None:
        given = second if first is None else first
        return buffer.zero_() if given is None else load(given, buffer)
    return (
        torch.add(first, second, out=buffer)
        if first.dtype == buffer.dtype
        else (buffer.copy_(first).add_(second))
    )
