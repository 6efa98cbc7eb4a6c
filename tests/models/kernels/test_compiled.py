"""Compiled arithmetic against the eager one."""

import pytest
import torch
from torch import Tensor

from ossnet.memory import track_peak
from ossnet.models import OccupancyNetwork, build_network, compile_arithmetic
from ossnet.models.kernels.base import Kernels, StatisticsGradient, TileInput
from ossnet.models.kernels.compiled import CompiledKernels
from ossnet.models.kernels.eager import EagerKernels
from ossnet.models.kernels.pade import Coefficients, Pade


def has_compiler() -> bool:
    try:
        compile_arithmetic(Pade())
    except RuntimeError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_compiler(), reason="torch.compile needs a C++ compiler")


def coefficients(dtype: torch.dtype) -> Coefficients:
    unit = Pade()
    with torch.no_grad():
        unit.denominator.copy_(torch.tensor([0.3, -1.2, 0.4, -0.2]))
    return Coefficients.of(unit.numerator, unit.denominator, dtype)


@pytest.mark.parametrize(
    ("dtype", "whole"), [(torch.float32, True), (torch.float32, False), (torch.bfloat16, True)]
)
def test_each_kernel_gives_what_eager_torch_gives(dtype: torch.dtype, whole: bool) -> None:
    torch.manual_seed(0)
    batch, residual, first, second = (torch.randn(1, 33, 20).to(dtype) for _ in range(4))
    scale, shift = torch.randn(1, 1, 20), torch.randn(1, 1, 20)
    tile_input = TileInput(batch, scale, shift, residual) if whole else TileInput(batch)
    given = (first, second) if whole else (None, second)
    correction = StatisticsGradient(shift, scale) if whole else None

    def results(kernels: Kernels) -> list[Tensor]:
        unit = coefficients(torch.float32)
        made = [kernels.activate(tile_input, unit, None).clone()]
        made += [kernels.activate(tile_input, unit, torch.empty_like(batch))]
        made += [each.clone() for each in kernels.differentiate(tile_input, unit, given)]
        scaled = first.clone()
        kernels.scale_gradient(batch, scaled, scale, correction, scaled)
        return [*made, scaled]

    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    for compiled, eager in zip(results(CompiledKernels()), results(EagerKernels()), strict=True):
        torch.testing.assert_close(compiled.float(), eager.float(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("dtype", "axes"), [(torch.float32, (1,)), (torch.float32, (1, 2)), (torch.bfloat16, (1, 2))]
)
def test_moments_are_those_of_eager_torch(dtype: torch.dtype, axes: tuple[int, ...]) -> None:
    """The sum of n deviations from the rough mean is zero but for rounding: it has no relative accuracy.

    A mean that is off by one float32 rounding of the greatest value, eps max|x|, which is what summing in
    another order costs, shifts every deviation equally, and so their sum by n eps max|x|.
    """
    torch.manual_seed(0)
    batch = torch.randn(1, 33, 20).to(dtype)
    count = batch[0].numel() if len(axes) == 2 else batch.shape[1]
    rounding = count * torch.finfo(torch.float32).eps * float(batch.abs().max())
    compiled, eager = (kernels.moments(batch, axes) for kernels in (CompiledKernels(), EagerKernels()))
    for got, expected, absolute in zip(compiled, eager, (1e-5, rounding, 1e-5), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=absolute)
    mean = compiled[0].double() + compiled[1].double() / count
    torch.testing.assert_close(mean, batch.double().mean(axes, keepdim=True), rtol=1e-6, atol=1e-6)


def training_step(network: OccupancyNetwork, volume: Tensor, points: Tensor, patches: Tensor) -> Tensor:
    network.zero_grad()
    prediction = network(volume, points, patches, (64, 32, 32))
    assert prediction.auxiliary is not None
    (prediction.logits.square().mean() + prediction.auxiliary.square().mean()).backward()
    return prediction.logits.detach()


def copies(network: OccupancyNetwork) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]


@pytest.mark.slow
def test_a_network_trains_and_decides_as_before_and_takes_the_same_memory() -> None:
    torch.manual_seed(0)
    network = build_network("oss-net-d", patch_edge=3, decoder_width=16, decoder_blocks=3)
    assert isinstance(network, OccupancyNetwork)
    volume, points = torch.randn(1, network.config.in_channels, 32, 16, 16), torch.rand(1, 50, 3) * 2 - 1
    patches = torch.randn(1, 50, network.config.patch_channels, 3, 3, 3)
    given = volume, points, patches
    training_step(network, *given)
    with track_peak("cpu", resident=list(network.parameters())) as eager:
        logits = training_step(network, *given)
    gradients = copies(network)
    network.eval()
    with torch.inference_mode():
        decided = network(*given, (64, 32, 32)).logits

    compile_arithmetic(network.train())
    torch.testing.assert_close(training_step(network, *given), logits, rtol=1e-4, atol=1e-5)
    for compiled_gradient, gradient in zip(copies(network), gradients, strict=True):
        torch.testing.assert_close(compiled_gradient, gradient, rtol=1e-3, atol=1e-5)
    with track_peak("cpu", resident=list(network.parameters())) as compiled:
        training_step(network, *given)
    assert compiled.allocated == eager.allocated
    network.eval()
    with torch.inference_mode():
        now = network(*given, (64, 32, 32)).logits
    assert (now - decided).abs().max() < 0.05 * decided.abs().max()  # running statistics have moved on
