"""The U-Net baselines on any size of image."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from ossnet.models import UNet, build_network
from ossnet.models.kernels._torch import TorchDispatchMode


@pytest.mark.parametrize(("name", "grid"), [("unet-3d", (33, 20, 17)), ("unet-2d", (50, 37))])
def test_baselines_are_of_a_sensible_size_and_train(name: str, grid: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = build_network(name, in_channels=2)
    assert 1e6 < sum(parameter.numel() for parameter in network.parameters()) < 5e6
    image = torch.randn(1, 2, *grid)
    label = (image[:, :1] > 0).float()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(6):
        logits = network(image)
        assert logits.shape == (1, 1, *grid)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
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
        (torch.zeros(1, 1, 4, 3, 4), r"image: \(4, 3, 4\) reduces to one voxel over channels=\(2, 3, 4\)"),
    ],
)
def test_an_image_that_does_not_fit_is_refused(image: torch.Tensor, message: str) -> None:
    network = build_network("unet-3d", channels=(2, 3, 4))
    with pytest.raises(ValueError, match=message):
        network(image)


def twins(name: str, **fields: Any) -> tuple[UNet, UNet]:
    """A network and the same that recomputes its activations."""
    torch.manual_seed(0)
    fields = {"in_channels": 2, "classes": 2, "channels": (4, 6, 8), **fields}
    plain, recomputing = (build_network(name, **fields, checkpoint_activations=on) for on in (False, True))
    recomputing.load_state_dict(plain.state_dict())  # strict: the keys are the same
    return plain, recomputing


def step(network: nn.Module, image: Tensor, precision: torch.dtype = torch.float32) -> list[Tensor]:
    """Logits and gradients."""
    image = image.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        logits = network(image)
    logits.float().square().mean().backward()
    gradients = [each.grad for each in (image, *network.parameters())]
    assert all(gradient is not None for gradient in gradients)
    return [logits.detach(), *gradients]


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("name", "grid", "fields"),
    [
        ("unet-3d", (13, 12, 9), {}),
        ("unet-3d", (8, 12, 9), {"residual_units": 1}),  # two planes at the bottom: float32 on CPUs
        ("unet-3d", (6, 5, 7), {"channels": (4, 6)}),
        ("unet-2d", (21, 13), {"residual_units": 3}),
    ],
)
def test_recomputed_activations_give_the_same_logits_and_gradients(
    name: str, grid: tuple[int, ...], fields: Mapping[str, Any], precision: torch.dtype
) -> None:
    plain, recomputing = twins(name, **fields)
    image = torch.randn(2, 2, *grid)
    for expected, found in zip(*(step(net, image, precision) for net in (plain, recomputing)), strict=True):
        assert torch.equal(found, expected)


@pytest.fixture
def single_rank() -> Iterator[None]:
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_recomputing_under_data_parallelism(single_rank: None) -> None:
    plain, recomputing = twins("unet-3d")
    parallel = DistributedDataParallel(copy.deepcopy(recomputing))
    image = torch.randn(2, 2, 12, 12, 8)
    for expected, found in zip(step(plain, image), step(parallel, image), strict=True):
        torch.testing.assert_close(found, expected)


class Operations(TorchDispatchMode):
    """Lists what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def operations(network: UNet, image: Tensor, *, backward: bool) -> list[str]:
    with torch.set_grad_enabled(backward), Operations() as seen:
        logits = network(image)
        if backward:
            logits.mean().backward()
    return seen.names


def test_recomputing_costs_a_forward_pass_in_training_and_nothing_in_evaluation() -> None:
    plain, recomputing = twins("unet-2d")
    image = torch.randn(1, 2, 16, 16)
    assert operations(recomputing, image, backward=False) == operations(plain, image, backward=False)
    once, twice = (
        sum("convolution.default" in name for name in operations(network, image, backward=True))
        for network in (plain, recomputing)
    )
    assert once < twice <= 2 * once


@pytest.mark.parametrize("checkpoint_activations", [False, True])
def test_bfloat16_trains(checkpoint_activations: bool) -> None:
    torch.manual_seed(0)
    network = build_network("unet-3d", channels=(4, 8), checkpoint_activations=checkpoint_activations)
    image = torch.randn(1, 1, 16, 16, 16)
    label = (image > 0).float()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(12):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(image)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits.float(), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
