"""Convolutions as large as the patch, through transformed planes, against torch's convolution."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ossnet.models.kernels.patches.toeplitz import Transform, plane_matrices, toeplitz_index


def convolve(patches: Tensor, weight: Tensor) -> Tensor:
    edge, outputs = patches.shape[2], len(weight)
    transform = Transform.of(edge, weight.detach())
    planes = patches.movedim(2, 0).flatten(1)
    mixed = (transform.analysis @ planes).view(len(transform.analysis), len(patches), -1)
    products = torch.bmm(mixed, plane_matrices(weight, transform, toeplitz_index(edge)))
    mapped = (transform.synthesis @ products.flatten(1)).view(edge, len(patches), outputs, edge, edge)
    return mapped.movedim(0, 2)


@pytest.mark.parametrize("edge", [3, 5, 7, 9, 11])
def test_it_is_the_convolution(edge: int) -> None:
    torch.manual_seed(edge)
    patches = torch.randn(4, 3, edge, edge, edge, dtype=torch.float64)
    weight = torch.randn(2, 3, edge, edge, edge, dtype=torch.float64, requires_grad=True)
    expected = functional.conv3d(patches, weight, padding=edge // 2)
    torch.testing.assert_close(convolve(patches, weight), expected, rtol=1e-12, atol=1e-12)
    outer = torch.randn_like(expected)
    ours, theirs = (
        torch.autograd.grad(value, weight, outer)[0] for value in (convolve(patches, weight), expected)
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-11)


@pytest.mark.parametrize("edge", [3, 7, 11])
def test_single_precision_loses_nothing_to_the_transform(edge: int) -> None:
    torch.manual_seed(edge)
    patches, weight = torch.randn(4, 3, edge, edge, edge), torch.randn(2, 3, edge, edge, edge)
    exact = functional.conv3d(patches.double(), weight.double(), padding=edge // 2)
    error = (convolve(patches, weight) - exact).abs().max() / exact.abs().max()
    assert error < 1e-6


def test_seven_takes_fourteen_products() -> None:
    assert Transform.of(7, torch.zeros(())).analysis.shape == (14, 7)
