"""The patch encoder: two convolutions as wide as the patch, evaluated a few points at a time.

Letters: B batch, N points, M = B N of them, m those at a time, C channels in, O hidden channels, P patch
edge, V = P^3 voxels; S = C P^2, T = O P^2 and Q = P^2 numbers of a plane; R products of a transform
(toeplitz.py).
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ossnet.models.kernels._fake import is_fake
from ossnet.models.kernels.base import TileGradients
from ossnet.models.kernels.pade import Pade
from ossnet.models.kernels.patches.plane_convolution import PlaneLayer
from ossnet.models.kernels.patches.toeplitz import Transform, plane_matrices, toeplitz_index
from ossnet.models.kernels.precision import compute_dtype

_CPU_ELEMENTS = 1 << 17
_DEVICE_ELEMENTS = 1 << 23


class PatchEncoder(nn.Module):
    """Patches to V features a point: convolution, Pade, convolution to one channel, Pade (spec section 4).

    Only the patches are kept for the backward pass, which exist anyway: the rest is computed again.
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

    def forward(self, *patches: Float[Tensor, "B N _ P P P"]) -> Float[Tensor, "B N V"]:
        """Features of each point, in the precision of matrix products.

        Args:
            patches: tensors that hold the C channels one after the other, in any precisions.
        """
        weights = self.convolution1.weight, self.convolution2.weight
        with torch.autocast(weights[0].device.type, enabled=False):
            transform = Transform.of(self.edge, weights[0].detach())
            first, second = (plane_matrices(weight, transform, self.toeplitz_index) for weight in weights)
        flat = _PatchFeatures.apply(
            transform,
            compute_dtype(first),
            self.activation1.compiled,
            *(first, self.convolution1.bias, self.activation1.numerator, self.activation1.denominator),
            *(second, self.convolution2.bias, self.activation2.numerator, self.activation2.denominator),
            *(each.flatten(0, 1) for each in patches),
        )
        return flat.view(*patches[0].shape[:2], self.edge**3)


class _PatchFeatures(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, transform: Transform, dtype: torch.dtype, compiled: bool, *tensors: Tensor
    ) -> Tensor:
        ctx.save_for_backward(*tensors)
        ctx.transform, ctx.dtype, ctx.compiled = transform, dtype, compiled
        parameters, patches = tensors[:8], tensors[8:]
        first = PlaneLayer.of(parameters[:4], transform, dtype, compiled=compiled)
        second = PlaneLayer.of(parameters[4:], transform, dtype, compiled=compiled)
        working, plane = parameters[0].dtype, parameters[0].shape[2]
        edge, points = patches[0].shape[2], len(patches[0])
        features = patches[0].new_empty(points, edge**3, dtype=dtype)
        for part in _parts(patches[0], plane):
            convolved = first.convolve(first.mix(_planes(patches, part, working)))
            mapped = second.convolve(second.mix(first.activate(convolved)))
            _by_plane(features[part], edge).copy_(second.activate(mapped))
        return features

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        parameters, patches = ctx.saved_tensors[:8], ctx.saved_tensors[8:]
        of = partial(PlaneLayer.of, transform=ctx.transform, dtype=ctx.dtype, compiled=ctx.compiled)
        first, second = of(parameters[:4]), of(parameters[4:])
        edge, working = patches[0].shape[2], parameters[0].dtype
        sums1, sums2 = _Sums(parameters[0]), _Sums(parameters[4])
        needed = ctx.needs_input_grad[-len(patches) :]
        pulled = [
            torch.empty_like(each) if needs else None for each, needs in zip(patches, needed, strict=True)
        ]
        for part in _parts(patches[0], parameters[0].shape[2]):
            mixed1 = first.mix(_planes(patches, part, working))
            convolved = first.convolve(mixed1)
            mixed2 = second.mix(first.activate(convolved))
            mapped = second.convolve(mixed2)
            outer = _by_plane(gradient[part], edge).to(working).contiguous()
            slopes = second.activation_gradient(mapped, outer)
            products = second.products_gradient(slopes.before)
            second.add_matrices_gradient(sums2.matrices, mixed2, products)
            sums2.add(slopes)
            slopes = first.activation_gradient(convolved, second.planes_gradient(products))
            products = first.products_gradient(slopes.before)
            first.add_matrices_gradient(sums1.matrices, mixed1, products)
            sums1.add(slopes)
            if any(needed):
                _scatter(first.planes_gradient(products), pulled, patches, part)
        return (
            None,
            None,
            None,
            *sums1.gradients(*parameters[1:4]),
            *sums2.gradients(*parameters[5:]),
            *pulled,
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


def _planes(
    patches: Sequence[Float[Tensor, "M _ P P P"]], part: slice, dtype: torch.dtype
) -> Float[Tensor, "P m S"]:
    """The patches of some points with their first axis outermost, so that planes can be mixed by one matrix
    product."""
    split = [each[part].flatten(3).movedim(2, 0) for each in patches]
    edge, points, _, plane = split[0].shape
    channels = [each.shape[2] for each in split]
    planes = patches[0].new_empty(edge, points, sum(channels), plane, dtype=dtype)
    for own, each in zip(planes.split(channels, 2), split, strict=True):
        own.copy_(each)
    return planes.flatten(2)


def _scatter(
    gradient: Float[Tensor, "P m S"],
    pulled: Sequence[Float[Tensor, "M _ P P P"] | None],
    patches: Sequence[Float[Tensor, "M _ P P P"]],
    part: slice,
) -> None:
    """Copy the gradient of planes into those of the patches that have one."""
    edge, points, _ = gradient.shape
    split = gradient.view(edge, points, -1, edge**2).split([each.shape[1] for each in patches], 2)
    for target, own in zip(pulled, split, strict=True):
        if target is not None:
            target[part].flatten(3).movedim(2, 0).copy_(own)


def _by_plane(features: Float[Tensor, "m V"], edge: int) -> Float[Tensor, "P m Q"]:
    """A view of flat features with planes outermost."""
    return features.view(len(features), edge, -1).movedim(1, 0)
