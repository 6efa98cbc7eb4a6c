"""Arithmetic of tiles by eager torch: a chain of operations in buffers that stay in a core's cache.

Letters: N rows, W columns.
"""

import torch
from torch import Tensor

from ossnet.models.kernels.base import StatisticsGradient, TileGradients, TileInput
from ossnet.models.kernels.pade import Coefficients, differentiate, evaluate
from ossnet.models.kernels.precision import working_dtype
from ossnet.models.kernels.tiles import load

_CPU_ELEMENTS = 1 << 16
_DEVICE_ELEMENTS = 1 << 21


class EagerKernels:
    """Kernels that reuse their buffers from call to call."""

    def __init__(self) -> None:
        self._memory = torch.empty(0, 0)

    def elements(self, device: torch.device) -> int:
        """A quarter of a MiB of float32 values on CPUs, 8 MiB elsewhere."""
        return _CPU_ELEMENTS if device.type == "cpu" else _DEVICE_ELEMENTS

    def activate(self, tile_input: TileInput, coefficients: Coefficients, out: Tensor | None) -> Tensor:
        first, second, *scratch = self._buffers(tile_input.batch, 4)
        values = evaluate(_activation_input(tile_input, first), coefficients, _target(out, second), scratch)
        return values.to(tile_input.batch.dtype) if out is None else _store(values, out)

    def differentiate(
        self,
        tile_input: TileInput,
        coefficients: Coefficients,
        gradients: tuple[Tensor | None, Tensor | None],
    ) -> TileGradients:
        first, second, out, *scratch = self._buffers(tile_input.batch, 7)
        gradient = _add(gradients, second)
        before, coefficient_gradients = differentiate(
            _activation_input(tile_input, first), gradient, coefficients, out, scratch
        )
        products = torch.mul(before, tile_input.batch, out=scratch[1])
        return TileGradients(
            scratch[0].to(tile_input.batch.dtype),
            before,
            coefficient_gradients,
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
        first, second, third = self._buffers(batch, 3)
        values = torch.mul(load(gradient, first), gain, out=_target(out, second))
        if correction is not None:
            values.add_(correction.offset).addcmul_(load(batch, third), correction.slope)
        _store(values, out)

    def moments(self, batch: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
        buffer, centered = self._buffers(batch, 2)
        values = load(batch, buffer)
        rough = values.mean(axes, keepdim=True)
        total = torch.sub(values, rough, out=centered).sum(axes, keepdim=True)
        return rough, total, centered.square_().sum(axes, keepdim=True)

    def _buffers(self, like: Tensor, count: int) -> list[Tensor]:
        """Views of `count` tensors shaped like one, in the precision of arithmetic."""
        size = like.numel()
        if self._memory.shape[0] < count or self._memory.shape[1] < size:
            self._memory = torch.empty(count, size, dtype=working_dtype(like), device=like.device)
        return list(self._memory[:count, :size].view(count, *like.shape).unbind())


def _activation_input(tile_input: TileInput, buffer: Tensor) -> Tensor:
    """The activation's input, in the buffer unless it is the batch itself."""
    values = load(tile_input.batch, buffer)
    if tile_input.scale is not None and tile_input.shift is not None:
        values = torch.addcmul(tile_input.shift, values, tile_input.scale, out=buffer)
    return values if tile_input.residual is None else torch.add(values, tile_input.residual, out=buffer)


def _target(out: Tensor | None, buffer: Tensor) -> Tensor:
    """The tensor to compute into: `out` if its precision allows, else the buffer."""
    return buffer if out is None or out.dtype != buffer.dtype else out


def _store(values: Tensor, out: Tensor) -> Tensor:
    """Copy what was computed in a buffer into `out`."""
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
