"""The fused step against a plain composition of the same operations."""

import pytest
import torch
from plain_network import batch_norm, conditional_norm, pade
from torch import Tensor, nn

from ossnet.models.kernels.fused import Linear, fused_activation, fused_linear
from ossnet.models.kernels.normalization import BatchNorm, ConditionalNorm
from ossnet.models.kernels.pade import Pade
from ossnet.models.residual import normalize_activate


def randomize(*modules: nn.Module) -> None:
    for module in modules:
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point():
                with torch.no_grad():
                    tensor += 0.1 * torch.rand_like(tensor)


def gradients(value: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    weights = torch.cos(torch.arange(value.numel(), dtype=value.dtype)).view(value.shape)
    return list(torch.autograd.grad((value * weights).sum(), inputs))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("per_feature", [True, False])
@pytest.mark.parametrize("ends", ["plain", "residual", "linear", "both"])
def test_points_are_normalized_activated_and_mapped(training: bool, per_feature: bool, ends: str) -> None:
    torch.manual_seed(1)
    norm = ConditionalNorm(6, 5, per_feature=per_feature).double().train(training)
    unit, linear = Pade().double(), nn.Linear(5, 3).double()
    randomize(norm, unit, linear)
    x = torch.randn(3, 17, 5, dtype=torch.float64).mul_(2).add_(1).requires_grad_()
    residual = torch.randn_like(x).requires_grad_() if ends in ("residual", "both") else None
    latent = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    last = linear if ends in ("linear", "both") else None
    entry = x, unit, norm.standardization(x), norm.modulation(latent)
    if last is None:
        value = fused_activation(*entry, residual=residual)
    else:
        both = fused_linear(*entry, Linear(last.weight, last.bias), residual=residual, keep=True)
        value = torch.cat(both, 2)
    flat = conditional_norm(x.flatten(0, 1), latent.repeat_interleave(17, 0), norm).view_as(x)
    plain = pade(flat if residual is None else flat + residual, unit)
    plain = plain if last is None else torch.cat([plain, last(plain)], 2)
    torch.testing.assert_close(value, plain)
    inputs = [x, latent, *norm.parameters(), *unit.parameters()]
    inputs += [] if residual is None else [residual]
    inputs += [] if last is None else list(last.parameters())
    for ours, theirs in zip(gradients(value, inputs), gradients(plain, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("channels", [1, 3, 16])
@pytest.mark.parametrize("residual", [True, False])
def test_volumes_are_normalized_and_activated(channels: int, residual: bool) -> None:
    torch.manual_seed(2)
    norm, unit = BatchNorm(channels).double(), Pade().double()
    randomize(norm, unit)
    x = torch.randn(2, channels, 4, 3, 6, dtype=torch.float64, requires_grad=True)
    other = torch.randn_like(x).requires_grad_() if residual else None
    value = normalize_activate(x, norm, unit, residual=other)
    plain = batch_norm(x, norm)
    plain = pade(plain if other is None else plain + other, unit)
    torch.testing.assert_close(value, plain)
    inputs = [x, *norm.parameters(), *unit.parameters(), *([] if other is None else [other])]
    for ours, theirs in zip(gradients(value, inputs), gradients(plain, inputs), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


def test_half_precision_stays_near_single() -> None:
    torch.manual_seed(3)
    norm, unit, linear = BatchNorm(8), Pade(), nn.Linear(32, 4)
    x = torch.randn(1, 500, 32)
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        batch = x.to(dtype).requires_grad_()
        _, value = fused_linear(
            batch, unit, norm.standardization(batch), norm.modulation(4), Linear(linear.weight, None)
        )
        assert value.dtype == dtype
        grads = torch.autograd.grad(
            value.float().square().sum(), [batch, linear.weight, unit.numerator, norm.bias]
        )
        results.append([value, *grads])
    for single, half in zip(*results, strict=True):
        scale = single.abs().mean()
        assert (single - half.float()).abs().mean() < 0.02 * scale


def test_what_is_not_kept_is_not_returned() -> None:
    norm, unit, linear = BatchNorm(8), Pade(), nn.Linear(8, 3)
    x = torch.randn(1, 10, 8)
    layer = Linear(linear.weight, linear.bias)
    activated, mapped = fused_linear(x, unit, norm.standardization(x), norm.modulation(1), layer)
    assert (activated.numel(), tuple(mapped.shape)) == (0, (1, 10, 3))
