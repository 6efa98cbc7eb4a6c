"""Convolutions in half precision on maps smaller than the kernel, and in float32 on small maps."""

import pytest
import torch
from torch import nn

from ossnet.models import build_network
from ossnet.models.kernels.convolution import channels_last, convolve


@pytest.mark.parametrize("edge", [3, 5])
@pytest.mark.parametrize("planes", [1, 2, 3, 4, 5, 6])
def test_weight_gradients_in_bfloat16_are_true_on_maps_of_any_size(edge: int, planes: int) -> None:
    torch.manual_seed(planes)
    layer = nn.Conv3d(8, 6, edge, padding=edge // 2, bias=False)
    volume = torch.randn(2, 8, planes, 4, 5)
    single = torch.autograd.grad(layer(volume).square().sum(), layer.weight)[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = torch.autograd.grad(convolve(layer, volume).float().square().sum(), layer.weight)[0]
    assert (half - single).abs().max() < 0.05 * single.abs().max()


def test_the_unet_takes_two_planes_at_the_bottom_in_bfloat16() -> None:
    torch.manual_seed(0)
    network = build_network("unet-3d", channels=(4, 6))
    volume = torch.randn(1, 1, 4, 8, 8)
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = network(volume).float().square().mean()
        gradients.append(
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))])
        )
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("edge", [2, 5, 32])
@pytest.mark.parametrize(("kernel", "bias"), [(1, False), (3, False), (5, True)])
def test_small_convolutions_are_torch_s(edge: int, kernel: int, bias: bool) -> None:
    """Whichever library does them, on either side of where torch would change it."""
    torch.manual_seed(0)
    layer = nn.Conv3d(4, 8, kernel, padding=kernel // 2, bias=bias)
    volume = torch.randn(1, 4, edge, edge, edge, requires_grad=True)
    found, expected = convolve(layer, volume), layer(volume)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    wanted = (volume, *layer.parameters())
    outer = torch.randn_like(expected)
    gradients = (torch.autograd.grad(each, wanted, outer) for each in (found, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("planes", [slice(None), slice(3, 9)])
def test_maps_of_a_volume_are_channels_last_whatever_its_channels(
    channels: int, batch: int, planes: slice
) -> None:
    """Else each would be copied; the values are those of the volume as it was."""
    torch.manual_seed(0)
    layer = nn.Conv3d(channels, 8, 3, padding=1, bias=False)
    volume = torch.randn(batch, channels, 12, 10, 14)
    last = channels_last(volume)
    assert torch.equal(last, volume)
    assert last.stride(1) == 1
    found = convolve(layer, last[:, :, planes])
    assert found.movedim(1, 4).is_contiguous()
    torch.testing.assert_close(found, layer(volume[:, :, planes]), rtol=1e-5, atol=1e-5)
    (one,) = torch.autograd.grad(found.square().sum(), layer.weight)
    (other,) = torch.autograd.grad(layer(volume[:, :, planes]).square().sum(), layer.weight)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)
