"""The encoder's block without gradients: in slabs and in place, with the same values and less memory."""

import pytest
import torch

from ossnet.memory import track_peak
from ossnet.models import residual
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
