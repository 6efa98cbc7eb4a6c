"""Convolutions as large as what they convolve, as matrix products in half the operations.

A convolution of a P^3 patch by a P^3 kernel with "same" padding links every voxel with nearly every
other. Run as such it is slow; as a product with its dense matrix fast, but most of the work. Here one
axis goes through a real Fourier transform of length P + P // 2, just long enough that nothing wraps
round, in which the convolution along that axis is a product of numbers: complex ones, by Gauss's three
real products. The other two axes stay a dense matrix. With P = 7 this is 14 products of 49 x 49 matrices
for each pair of channels instead of 49 (37 of them not zero), all in real arithmetic and exact up to
rounding.

Letters: P edge, R products (14 for P = 7), C channels in, O channels out, S = C P^2 inputs and T = O P^2
outputs of a plane.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Transform(NamedTuple):
    """A convolution along one axis as `synthesis @ ((kernel @ k) * (analysis @ x))`."""

    analysis: Float[Tensor, "R P"]
    kernel: Float[Tensor, "R P"]
    synthesis: Float[Tensor, "P R"]

    @classmethod
    def of(cls, edge: int, like: Tensor) -> "Transform":
        """Make the transform for patches and kernels of an odd edge, in the precision and on the device of a
        tensor."""
        length = edge + edge // 2
        place = torch.arange(edge, dtype=torch.float64)
        shift = place - edge // 2
        rows: list[tuple[Tensor, Tensor, Tensor]] = []
        for frequency in range(length // 2 + 1):
            angle = 2 * math.pi * frequency / length
            cosine, sine = torch.cos(angle * place), torch.sin(angle * place)
            real, imaginary = torch.cos(angle * shift), torch.sin(angle * shift)
            if frequency == 0 or 2 * frequency == length:
                rows.append((cosine, real, cosine / length))
                continue
            rows += [
                (cosine - sine, real, 2 * (cosine - sine) / length),
                (cosine, imaginary - real, -2 * sine / length),
                (-sine, real + imaginary, -2 * cosine / length),
            ]
        analysis, kernel, synthesis = (torch.stack(each).to(like) for each in zip(*rows, strict=True))
        return cls(analysis, kernel, synthesis.t().contiguous())


def toeplitz_index(edge: int) -> Int[Tensor, "PP PP"]:
    """Index of the element of a flat P^2 kernel that links input (row) to output (column); P^2 where none
    does."""
    place = torch.arange(edge)
    offset = place[:, None] - place[None, :] + edge // 2
    valid = (offset >= 0) & (offset < edge)
    index = offset[:, None, :, None] * edge + offset[None, :, None, :]
    every = valid[:, None, :, None] & valid[None, :, None, :]
    return torch.where(every, index, edge**2).reshape(edge**2, edge**2)


def plane_matrices(
    weight: Float[Tensor, "O C P P P"], transform: Transform, toeplitz_index: Int[Tensor, "PP PP"]
) -> Float[Tensor, "R S T"]:
    """The kernel, transformed along its first axis, laid out as matrices over the others; differentiable."""
    outputs, inputs, edge = weight.shape[:3]
    plane = edge**2
    transformed = torch.einsum("rp,ocpq->rocq", transform.kernel, weight.flatten(3))
    padded = torch.nn.functional.pad(transformed, (0, 1))
    entries = padded.index_select(3, toeplitz_index.flatten()).view(-1, outputs, inputs, plane, plane)
    return entries.permute(0, 2, 3, 1, 4).reshape(-1, inputs * plane, outputs * plane)
