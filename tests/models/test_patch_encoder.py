"""The patch encoder against torch's convolutions, and what it keeps."""

import pytest
import torch
from plain_network import pade
from torch import Tensor

from ossnet.models import patch_encoder
from ossnet.models.patch_encoder import PatchEncoder


def plain(encoder: PatchEncoder, patches: Tensor) -> Tensor:
    hidden = pade(encoder.convolution1(patches.flatten(0, 1)), encoder.activation1)
    return pade(encoder.convolution2(hidden), encoder.activation2).view(*patches.shape[:2], -1)


@pytest.mark.parametrize(("channels", "edge"), [(1, 3), (2, 5), (3, 7), (4, 9)])
def test_features_and_gradients_are_those_of_convolutions(
    channels: int, edge: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patch_encoder, "_CPU_ELEMENTS", 4 * edge**3)  # several parts, the last one short
    torch.manual_seed(edge)
    encoder = PatchEncoder(channels, edge).double()
    patches = torch.randn(2, 7, channels, edge, edge, edge, dtype=torch.float64, requires_grad=True)
    ours, theirs = encoder(patches), plain(encoder, patches)
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    outer = torch.randn_like(ours)
    inputs = [patches, *encoder.parameters()]
    for one, other in zip(
        torch.autograd.grad(ours, inputs, outer), torch.autograd.grad(theirs, inputs, outer), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)
    with torch.no_grad():
        torch.testing.assert_close(encoder(patches), theirs, rtol=1e-10, atol=1e-12)


def test_only_patches_are_kept() -> None:
    encoder, patches = PatchEncoder(4, 5), torch.randn(1, 30, 4, 5, 5, 5)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor) or tensor, lambda t: t):
        encoder(patches)
    assert [tensor.data_ptr() for tensor in kept if len(tensor) == 30] == [patches.data_ptr()]


@pytest.mark.parametrize("bf16", [False, True])
def test_channels_may_come_apart_in_precisions_of_their_own(bf16: bool) -> None:
    torch.manual_seed(0)
    encoder = PatchEncoder(5, 5)
    local = torch.randn(2, 6, 2, 5, 5, 5).half()
    mid_range = torch.randn(2, 6, 3, 5, 5, 5, requires_grad=True)
    whole = torch.cat([local.float(), mid_range.detach()], 2).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        together, apart = encoder(whole), encoder(local, mid_range)
    assert torch.equal(apart, together)
    outer = torch.randn_like(apart)
    parameters = list(encoder.parameters())
    expected = torch.autograd.grad(together, [whole, *parameters], outer)
    found = torch.autograd.grad(apart, [mid_range, *parameters], outer)
    assert torch.equal(found[0], expected[0][:, :, 2:])
    assert all(torch.equal(one, other) for one, other in zip(found[1:], expected[1:], strict=True))


def test_patches_may_come_in_half_precision() -> None:
    encoder, patches = PatchEncoder(2, 5), torch.randn(1, 9, 2, 5, 5, 5).half()
    features = encoder(patches)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, encoder(patches.float()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = encoder(patches)
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - features).abs().mean() < 0.02 * features.abs().mean()
