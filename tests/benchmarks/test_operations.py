"""Counts of operations against torch's own counter on networks that run, and against closed forms."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import plain_network
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from ossnet.benchmarks.networks.macs import Operations, training_operations
from ossnet.models import OccupancyConfig, OccupancyNetwork, network_config
from ossnet.models.encoder import Latent

BRATS = (256, 256, 160)
NAMES = (
    "o-net",
    "oss-net-a",
    "oss-net-b",
    "oss-net-c",
    "oss-net-d",
    "feature-query",
    "feature-query-patch",
    "feature-pyramid",
)


def taps(image: Tensor, weight: Tensor, padding: Sequence[int]) -> int:
    """Multiplications of a convolution that are not by the padding: its output where all is 1."""
    inputs, outputs = torch.ones(image.shape, dtype=torch.double), torch.ones(weight.shape).double()
    return round(functional.conv3d(inputs, outputs, padding=list(padding)).sum().item())


def convolution(
    image: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, *rest: Any, **_: Any
) -> int:
    return 2 * taps(image, weight, padding)


def onednn_convolution(image: Tensor, weight: Tensor, bias: Any, padding: Any, *rest: Any, **_: Any) -> int:
    return 2 * taps(image, weight, padding)


def convolution_backward(
    gradient: Tensor,
    image: Tensor,
    weight: Tensor,
    bias: Any,
    stride: Any,
    padding: Any,
    *rest: Any,
    **_: Any,
) -> int:
    of_input, of_weight, _bias = rest[-1]
    return 2 * taps(image, weight, padding) * (of_input + of_weight)


def counted(work: Callable[[], Any]) -> int:
    """Multiply-accumulates of what runs."""
    for function in (convolution, onednn_convolution, convolution_backward):
        function._get_raw = True  # type: ignore[attr-defined]  # the counter then gives tensors, not shapes
    custom = {
        torch.ops.aten.convolution: convolution,
        torch.ops.aten.mkldnn_convolution: onednn_convolution,
        torch.ops.aten.convolution_backward: convolution_backward,
    }
    with FlopCounterMode(display=False, custom_mapping=custom) as counter:
        work()
    return counter.get_total_flops() // 2


def small(name: str, **fields: Any) -> OccupancyConfig:
    sizes = {"encoder_channels": (4, 6), "latent_grid": (3, 2, 2), "decoder_width": 8, "decoder_blocks": 3}
    config = network_config(name, **{"in_channels": 3, "classes": 2, **sizes, **fields})
    assert isinstance(config, OccupancyConfig)
    return config


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fields", [{}, {"encoder_channels": (3, 5), "encoder_downscale": 1}])
def test_the_encoder_is_counted_as_it_runs(name: str, fields: dict[str, Any]) -> None:
    model = small(name, **fields)
    network = OccupancyNetwork(model).train()
    image = torch.randn(2, 3, *(edge // model.encoder_downscale for edge in (24, 16, 16)))
    latents: list[Latent] = []

    def total(latent: Latent) -> Tensor:
        parts = (latent.vectors, latent.auxiliary, *latent.maps)
        return sum((part.sum() for part in parts if part is not None), torch.zeros(()))

    forward = counted(lambda: latents.append(network.encode(image)))
    backward = counted(lambda: total(latents[0]).backward())
    expected = training_operations(model, (24, 16, 16), volumes=2, points=5)["encoder"]
    # To save memory the first convolution is applied again in the backward pass, which no exact step needs.
    again = counted(lambda: network.encoder.blocks[0].convolution1(image))
    assert Operations(forward, backward - again) == expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("points", [1, 3])
def test_points_are_counted_as_the_plain_composition_runs_them(name: str, points: int) -> None:
    """The plain network repeats what a volume gives for each point, and needs gradients of coordinates."""
    model, volumes = small(name, patch_edge=3, distance_head=name == "feature-query"), 2
    network = OccupancyNetwork(model).train()
    latent = torch.randn(volumes, model.latent_channels, model.latent_length, requires_grad=True)
    patches = torch.randn(volumes, points, model.patch_channels, 3, 3, 3) if model.patch_channels else None
    coordinates = torch.rand(volumes, points, 3)
    widths = (4, 4, 6) if model.feature_query else ()  # the first block's twice, before and after halving
    maps = [torch.randn(volumes, width, 2, 2, 2, requires_grad=True) for width in widths]
    outputs: list[Tensor] = []
    forward = counted(
        lambda: outputs.append(plain_network.decode(network, latent, maps, coordinates, patches, (9, 9, 9)))
    )
    backward = counted(lambda: outputs[0].sum().backward())

    parts = training_operations(model, (24, 16, 16), volumes=volumes, points=points)
    ours = parts["patch_encoder"] + parts["decoder"]
    shared = 14 * model.latent_length * model.decoder_width  # first layer, shortcut; 4 a block
    repeated = Operations(shared, 2 * shared) * (volumes * (points - 1))
    of_coordinates = Operations(0, 2 * 3 * model.decoder_width) * (volumes * points)
    assert Operations(forward, backward) == ours + repeated + of_coordinates


def test_the_papers_networks_cost_what_the_specification_says() -> None:
    model = network_config("oss-net-a", dataset="brats")
    assert isinstance(model, OccupancyConfig)
    one, two = (training_operations(model, BRATS, volumes=1, points=points) for points in (1, 2))
    per_point = {part: two[part].forward - one[part].forward for part in one}
    dense = 343 * 343 * (4 * 2 + 2 * 1)
    assert dense == pytest.approx(1.2e6, rel=0.02)
    assert per_point["patch_encoder"] == 37**3 * (4 * 2 + 2 * 1)
    assert per_point["patch_encoder"] / dense == pytest.approx(0.43, abs=0.005)
    latent_in_every_point = 2 * 320 * 512
    assert per_point["decoder"] + latent_in_every_point == (2 * 666 + 9 * 512 + 1) * 512
    assert per_point["decoder"] + latent_in_every_point == pytest.approx(3.0e6, rel=0.02)
    assert per_point["encoder"] == 0
    cells = [128 * 128 * 80 // 8**level for level in range(5)]
    widths = [4, 16, 32, 64, 128]
    with_padding = 125 * cells[4] * 128
    for level, (before, width) in enumerate(pairwise(widths)):
        with_padding += 27 * width * (cells[level] * before + cells[level + 1] * width)
        with_padding += cells[level + 1] * before * width
    assert 0.94 * with_padding < one["encoder"].forward < with_padding


@settings(max_examples=20)
@given(name=st.sampled_from(NAMES), volumes=st.integers(1, 8), points=st.integers(1, 500))
def test_work_grows_with_volumes_and_backward_is_at_most_twice_forward(
    name: str, volumes: int, points: int
) -> None:
    model = small(name)
    one = training_operations(model, (32, 32, 32), volumes=1, points=points)
    many = training_operations(model, (32, 32, 32), volumes=volumes, points=points)
    assert many == {part: operations * volumes for part, operations in one.items()}
    for operations in one.values():
        assert operations.forward <= operations.backward <= 2 * operations.forward
        assert operations.total == operations.forward + operations.backward
