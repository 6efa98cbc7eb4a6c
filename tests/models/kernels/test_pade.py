"""The Pade unit: its formula, its shape at the start, its gradients."""

import pytest
import torch
from plain_network import pade

from ossnet.models.kernels.fused import fused_activation
from ossnet.models.kernels.normalization import Modulation, Standardization
from ossnet.models.kernels.pade import Pade


def apply(x: torch.Tensor, unit: torch.nn.Module) -> torch.Tensor:
    """The unit alone: standardized by nothing, modulated by nothing."""
    one, zero = torch.ones(1, 1, 1, dtype=x.dtype), torch.zeros(1, 1, 1, dtype=x.dtype)
    nothing = Standardization(zero, one, 1, None), Modulation(one, zero)
    return fused_activation(x.view(1, -1, 1), unit, *nothing).view(x.shape)


def test_it_has_ten_parameters_and_begins_as_a_leaky_relu() -> None:
    unit = Pade()
    assert sum(parameter.numel() for parameter in unit.parameters()) == 10
    x = torch.linspace(-3, 3, 601)
    error = (apply(x, unit) - torch.nn.functional.leaky_relu(x, 0.01)).detach()
    assert error.abs().max().item() == pytest.approx(0.034, abs=1e-3)
    assert error.square().mean().sqrt().item() == pytest.approx(0.0055, abs=2e-4)


@pytest.mark.parametrize(("x", "value"), [(0.0, 0.0336), (-10.0, -2.27), (-100.0, -47.4), (10.0, 7.83)])
def test_it_is_a_line_far_away(x: float, value: float) -> None:
    assert apply(torch.tensor([x]), Pade()).item() == pytest.approx(value, rel=3e-3)


@pytest.mark.parametrize("size", [7, 70_000])
def test_values_equal_the_formula(size: int) -> None:
    unit, x = Pade(), torch.randn(size) * 3
    torch.testing.assert_close(apply(x, unit), pade(x, unit), rtol=1e-5, atol=1e-6)


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    unit = Pade().double()
    with torch.no_grad():
        unit.denominator.copy_(torch.tensor([0.3, -1.2, 0.4, -0.2]))
    x = torch.randn(30, dtype=torch.float64, requires_grad=True)

    def function(x: torch.Tensor, numerator: torch.Tensor, denominator: torch.Tensor) -> torch.Tensor:
        unit = torch.nn.Module()
        unit.numerator, unit.denominator, unit.compiled = numerator, denominator, False
        return apply(x, unit)

    parameters = [parameter.detach().requires_grad_() for parameter in (unit.numerator, unit.denominator)]
    assert torch.autograd.gradcheck(function, (x, *parameters))


def test_large_inputs_stay_finite() -> None:
    x = torch.tensor([-1e6, 1e6], requires_grad=True)
    value = apply(x, Pade())
    value.sum().backward()
    assert value.isfinite().all()
    torch.testing.assert_close(x.grad, torch.full((2,), 0.505), rtol=1e-3, atol=0)


def test_it_keeps_only_its_input_for_the_backward_pass() -> None:
    unit, x = Pade(), torch.randn(100_000, requires_grad=True)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda t: t):
        apply(x, unit)
    large = [tensor for tensor in kept if tensor.numel() > 10]
    assert [tensor.data_ptr() for tensor in large] == [x.data_ptr()]
