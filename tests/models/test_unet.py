"""The U-Net baselines on any size of image."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ossnet.models import build_network


@pytest.mark.parametrize(("name", "grid"), [("unet-3d", (33, 20, 17)), ("unet-2d", (50, 37))])
def test_baselines_are_of_a_sensible_size_and_train(name: str, grid: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = build_network(name, in_channels=2)
    assert 1e6 < sum(parameter.numel() for parameter in network.parameters()) < 5e6
    image = torch.randn(1, 2, *grid)
    label = (image[:, :1] > 0).float()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        logits = network(image)
        assert logits.shape == (1, 1, *grid)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@given(grid=st.tuples(st.integers(1, 11), st.integers(5, 12), st.integers(1, 9)), classes=st.integers(1, 3))
@settings(max_examples=25)
def test_any_image_comes_back_in_its_own_size(grid: tuple[int, int, int], classes: int) -> None:
    volume = build_network("unet-3d", classes=classes, channels=(2, 3, 4))
    assert volume(torch.randn(1, 1, *grid)).shape == (1, volume.config.logits, *grid)
    plane = build_network("unet-2d", classes=classes, channels=(2, 3, 4), residual_units=1)
    assert plane(torch.randn(2, 1, *grid[:2])).shape == (2, plane.config.logits, *grid[:2])


def test_bfloat16_runs() -> None:
    network = build_network("unet-3d", channels=(4, 8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(torch.randn(1, 1, 8, 8, 8)).float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(1, 2, 8, 8, 8), r"image: expected \[batch, 1, 3 axes\], found shape \(1, 2, 8, 8, 8\)"),
        (torch.zeros(1, 1, 8, 8), r"image: expected \[batch, 1, 3 axes\]"),
        (torch.zeros(1, 1, 4, 3, 4), r"image: \(4, 3, 4\) shrinks to one voxel over channels=\(2, 3, 4\)"),
    ],
)
def test_an_image_that_does_not_fit_is_refused(image: torch.Tensor, message: str) -> None:
    network = build_network("unet-3d", channels=(2, 3, 4))
    with pytest.raises(ValueError, match=message):
        network(image)
