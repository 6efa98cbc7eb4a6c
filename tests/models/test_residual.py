"""The encoder's block without gradients: in slabs and in place, with the same values and less memory."""

import pytest
import torch
from torch import Tensor

from ossnet.memory import track_peak
from ossnet.models import residual
from ossnet.models.kernels.compiled import compile_arithmetic
from ossnet.models.residual import ResidualBlock


def block() -> ResidualBlock:
    torch.manual_seed(0)
    trained = ResidualBlock(2, 6)
    for _ in range(3):
        trained(torch.randn(2, 2, 8, 8, 8))  # running statistics of its own
    return trained.eval()


@pytest.mark.parametrize("planes", [2, 16, 20, 21, 24])
@pytest.mark.parametrize("exposed", [True, False])
def test_slabs_give_what_the_whole_gives(planes: int, exposed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, volume = block(), torch.randn(2, 2, planes, 6, 4)
    whole, fine = trained(volume, exposed=True)
    monkeypatch.setattr(residual, "_CPU_SLAB", 1)
    with torch.no_grad():
        halved, seen = trained(volume, exposed=exposed)
    torch.testing.assert_close(halved, whole, atol=1e-5, rtol=1e-5)
    assert (seen is not None) == exposed
    if exposed:
        torch.testing.assert_close(seen, fine, atol=1e-5, rtol=1e-5)


def test_slabs_never_hold_the_finest_map(monkeypatch: pytest.MonkeyPatch) -> None:
    trained, volume = block(), torch.randn(1, 2, 64, 48, 48)
    monkeypatch.setattr(residual, "_CPU_SLAB", 1)
    with torch.inference_mode(), track_peak("cpu", resident={"volume": [volume]}) as peak:
        trained(volume)
    finest = 6 * volume[0, 0].numel() * volume.element_size()
    assert peak.allocated - volume.numel() * volume.element_size() < 0.8 * finest


@pytest.mark.parametrize(
    ("shape", "exposed", "precision", "compiled"),
    [
        ((8, 6, 4), False, None, False),
        ((8, 6, 4), True, None, False),
        ((7, 6, 5), False, None, False),
        ((8, 6, 4), False, torch.bfloat16, False),
        ((8, 6, 4), True, torch.bfloat16, False),
        ((7, 6, 5), False, torch.bfloat16, False),
        ((8, 6, 4), False, None, True),  # of bfloat16 in test_compiled.py: each compiles for seconds
    ],
)
def test_a_convolution_made_again_changes_nothing(
    shape: tuple[int, ...], exposed: bool, precision: torch.dtype | None, compiled: bool
) -> None:
    volume = torch.randn(2, 2, *shape, generator=torch.Generator().manual_seed(1))
    kept, again = (step(volume, precision, exposed, compiled, recompute=on) for on in (False, True))
    assert all(torch.equal(one, other) for one, other in zip(kept, again, strict=True))


def step(
    volume: Tensor, precision: torch.dtype | None, exposed: bool, compiled: bool, *, recompute: bool
) -> list[Tensor]:
    """Outputs of a block, its gradients from two walks through the graph, and its running statistics."""
    trained = block().train()
    if compiled:
        compile_arithmetic(trained)
    with torch.autocast("cpu", precision, enabled=precision is not None):
        results = trained(volume, exposed=exposed, recompute=recompute)
    outputs = [output for output in results if output is not None]
    loss = torch.stack([output.float().square().sum() for output in outputs]).sum()
    gradients = [
        gradient
        for _ in range(2)
        for gradient in torch.autograd.grad(loss, list(trained.parameters()), retain_graph=True)
    ]
    assert all(gradient.isfinite().all() for gradient in gradients)
    return [*outputs, *gradients, *trained.buffers()]


def test_a_convolution_made_again_is_not_kept() -> None:
    volume, kept = torch.randn(1, 2, 16, 16, 16), list[int]()
    trained = block().train()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        trained(volume, recompute=True)
    assert max(kept) == volume.numel()
