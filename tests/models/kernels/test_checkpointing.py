"""Recomputed activations: the same outputs, gradients and running averages."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from ossnet.models import OccupancyConfig, OccupancyNetwork, network_config

SMALL: dict[str, Any] = {
    "in_channels": 2,
    "encoder_channels": (4, 8),
    "latent_grid": (2, 2, 2),
    "decoder_width": 24,
    "decoder_blocks": 3,
    "patch_edge": 3,
}


def step(network: OccupancyNetwork, precision: torch.dtype | None) -> list[Tensor]:
    """Outputs of a training step, then its gradients and buffers."""
    draws = torch.Generator().manual_seed(1)
    config = network.config
    coordinates = torch.rand(2, 50, 3, generator=draws) * 2 - 1
    patches = torch.randn(2, 50, max(config.patch_channels, 1), 3, 3, 3, generator=draws)
    given = patches if config.patch_channels else None
    with torch.autocast("cpu", precision, enabled=precision is not None):
        volume = torch.randn(2, 2, 16, 16, 16, generator=draws)
        result = network.train()(volume, coordinates, given, (16, 16, 16))
    outputs = [output for output in result if output is not None]
    torch.stack([output.square().mean() for output in outputs]).sum().backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    return [*outputs, *gradients, *network.buffers()]


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
@pytest.mark.parametrize(
    "name", ["o-net", "oss-net-b", "oss-net-c", "oss-net-d", "feature-query-patch", "feature-pyramid"]
)
def test_nothing_changes_but_the_memory(name: str, precision: torch.dtype | None) -> None:
    config = network_config(name, **SMALL)
    assert isinstance(config, OccupancyConfig)
    torch.manual_seed(0)
    plain = OccupancyNetwork(config)
    recomputing = OccupancyNetwork(replace(config, checkpoint_activations=True))
    recomputing.load_state_dict(plain.state_dict())
    expected, found = step(plain, precision), step(recomputing, precision)
    assert [each.shape for each in found] == [each.shape for each in expected]
    one, other = (torch.cat([each.double().flatten() for each in all_]) for all_ in (expected, found))
    # Sums over points are taken in other orders, which bfloat16 rounds by.
    assert (one - other).norm() <= (1e-5 if precision is None else 0.02) * one.norm()


def test_evaluation_recomputes_nothing() -> None:
    network = OccupancyNetwork(network_config("oss-net-a", **SMALL, checkpoint_activations=True))  # type: ignore[arg-type]
    with torch.no_grad():
        result = network.eval()(
            torch.zeros(1, 2, 16, 16, 16), torch.zeros(1, 5, 3), torch.zeros(1, 5, 2, 3, 3, 3), (16, 16, 16)
        )
    assert result.logits.shape == (1, 5, 1)
