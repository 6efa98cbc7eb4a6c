"""The patch encoder: two convolutions as wide as the patch, evaluated a few points at a time.

Letters: B batch, N points, M = B N of them, m those at a time, C channels in, O hidden channels, P patch
edge, V = P^3 voxels; S = C P^2, T = O P^2 and Q = P^2 numbers of a plane; R products of a transform
(toeplitz.py).
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ossnet.models.kernels._torch import is_fake
from ossnet.models.kernels.base import TileGradients
from ossnet.models.kernels.pade import Pade
from ossnet.models.kernels.plane_convolution import PlaneLayer
from ossnet.models.kernels.precision import compute_dtype
from ossnet.models.kernels.toeplitz import Transform, plane_matrices, toeplitz_index

_CPU_ELEMENTS = 1 << 17
_DEVICE_ELEMENTS = 1 << 23


class PatchEncoder(nn.Module):
    """Patches to V features a point: convolution, Pade, convolution to one channel, Pade (spec section 4).

    Only the two convolutions' outputs are kept for the backward pass, and the patches, which exist anyway.
    """

    toeplitz_index: Tensor

    def __init__(self, in_channels: int, edge: int) -> None:
        super().__init__()
        hidden = max(in_channels // 2, 1)
        self.edge = edge
        self.convolution1 = nn.Conv3d(in_channels, hidden, edge, padding=edge // 2)
        self.activation1 = Pade()
        self.convolution2 = nn.Conv3d(hidden, 1, edge, padding=edge // 2)
        self.activation2 = Pade()
        self.register_buffer("toeplitz_index", toeplitz_index(edge), persistent=False)

    def forward(self, patches: Float[Tensor, "B N C P P P"]) -> Float[Tensor, "B N V"]:
        """Features of each point, in the precision of matrix products."""
        weights = self.convolution1.weight, self.convolution2.weight
        with torch.autocast(patches.device.type, enabled=False):
            transform = Transform.of(self.edge, weights[0].detach())
            first, second = (plane_matrices(weight, transform, self.toeplitz_index) for weight in weights)
        flat = _PatchFeatures.apply(
            patches.flatten(0, 1).contiguous(),
            transform,
            compute_dtype(first),
            torch.is_grad_enabled(),
            self.activation1.compiled,
            *(first, self.convolution1.bias, self.activation1.numerator, self.activation1.denominator),
            *(second, self.convolution2.bias, self.activation2.numerator, self.activation2.denominator),
        )
        return flat.view(*patches.shape[:2], self.edge**3)


class _PatchFeatures(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        patches: Tensor,
        transform: Transform,
        dtype: torch.dtype,
        keep: bool,
        compiled: bool,
        *parameters: Tensor,
    ) -> Tensor:
        first = PlaneLayer.of(parameters[:4], transform, dtype, compiled=compiled)
        second = PlaneLayer.of(parameters[4:], transform, dtype, compiled=compiled)
        working, plane = parameters[0].dtype, parameters[0].shape[2]
        edge, kept = patches.shape[2], len(patches) if keep else 0
        features = patches.new_empty(len(patches), edge**3, dtype=dtype)
        hidden = patches.new_empty(kept, edge * plane, dtype=dtype)
        output = patches.new_empty(kept, edge**3, dtype=dtype)
        for part in _parts(patches, plane):
            convolved = first.convolve(_planes(patches[part], working))
            mapped = second.convolve(first.activate(convolved))
            if keep:
                hidden[part].view(convolved.shape).copy_(convolved)
                output[part].view(mapped.shape).copy_(mapped)
            _by_plane(features[part], edge).copy_(second.activate(mapped))
        ctx.save_for_backward(patches, *parameters, hidden, output)
        ctx.transform, ctx.compiled = transform, compiled
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        patches, *parameters, hidden, output = ctx.saved_tensors
        of = partial(PlaneLayer.of, transform=ctx.transform, dtype=hidden.dtype, compiled=ctx.compiled)
        first, second = of(tuple(parameters[:4])), of(tuple(parameters[4:]))
        edge, working = patches.shape[2], parameters[0].dtype
        sums1, sums2 = _Sums(parameters[0]), _Sums(parameters[4])
        pulled = torch.empty_like(patches) if ctx.needs_input_grad[0] else None
        for part in _parts(patches, parameters[0].shape[2]):
            mapped = _stored(output[part], edge).to(working)
            outer = _by_plane(gradient[part], edge).to(working).contiguous()
            slopes = second.activation_gradient(mapped, outer)
            products = second.products_gradient(slopes.before)
            sums2.add(slopes)
            convolved = _stored(hidden[part], edge).to(working)
            slopes = first.activation_gradient(convolved, second.planes_gradient(products))
            second.add_matrices_gradient(sums2.matrices, slopes.activated, products)
            products = first.products_gradient(slopes.before)
            planes = _planes(patches[part], working)
            first.add_matrices_gradient(sums1.matrices, planes, products)
            sums1.add(slopes)
            if pulled is not None:
                shape = edge, planes.shape[1], -1, edge**2
                pulled[part].flatten(3).movedim(2, 0).copy_(first.planes_gradient(products).view(shape))
        return (
            pulled,
            None,
            None,
            None,
            None,
            *sums1.gradients(*parameters[1:4]),
            *sums2.gradients(*parameters[5:]),
        )


class _Sums:
    """Gradients of one layer's parameters, added up over parts."""

    def __init__(self, matrices: Tensor) -> None:
        self.matrices = torch.zeros_like(matrices)
        self.bias = matrices.new_zeros(matrices.shape[2], dtype=torch.float64)
        self.coefficients = matrices.new_zeros(10, dtype=torch.float64)

    def add(self, slopes: TileGradients) -> None:
        """Count one part's bias and Pade coefficients."""
        self.bias += slopes.beta.sum((0, 1))
        self.coefficients += slopes.coefficients

    def gradients(self, bias: Tensor, numerator: Tensor, denominator: Tensor) -> tuple[Tensor, ...]:
        """The gradients of the matrices, the bias, and the Pade unit's numerator and denominator."""
        coefficients = self.coefficients.to(numerator.dtype)
        channels = self.bias.view(len(bias), -1).sum(1)
        return (
            self.matrices,
            channels.to(bias.dtype),
            coefficients[:6],
            coefficients[6:] * denominator.sgn(),
        )


def _parts(patches: Float[Tensor, "M C P P P"], plane: int) -> Iterator[slice]:
    """Slices of points whose hidden features fit a cache.

    Of fake tensors, which have no values, two: the second is made while what the first left still lives.
    """
    size = _CPU_ELEMENTS if patches.device.type == "cpu" else _DEVICE_ELEMENTS
    points = max(1, size // (plane * patches.shape[2]))
    for start in range(0, len(patches), points):
        yield slice(start, start + points)
        if start and is_fake(patches):
            return


def _planes(patches: Float[Tensor, "m C P P P"], dtype: torch.dtype) -> Float[Tensor, "P m S"]:
    """Patches with their first axis outermost, so that planes can be mixed by one matrix product."""
    points, channels, edge = patches.shape[:3]
    planes = patches.new_empty(edge, points, channels, edge**2, dtype=dtype)
    return planes.copy_(patches.flatten(3).movedim(2, 0)).flatten(2)


def _by_plane(features: Float[Tensor, "m V"], edge: int) -> Float[Tensor, "P m Q"]:
    """A view of flat features with planes outermost."""
    return features.view(len(features), edge, -1).movedim(1, 0)


def _stored(kept: Float[Tensor, "m U"], edge: int) -> Float[Tensor, "P m T"]:
    """A view of a part of what the forward pass stored, with planes outermost."""
    return kept.view(edge, len(kept), -1)
