"""torch.compile traces every network in one piece, with the same values and gradients (docs/compile.md)."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ossnet.models import OccupancyConfig, build_network

SMALL_OCCUPANCY = {
    "encoder_channels": (4,),
    "latent_grid": (2, 2, 2),
    "decoder_width": 8,
    "decoder_blocks": 1,
    "patch_edge": 3,
}
SMALL_UNET = {"channels": (4, 8), "residual_units": 1}


def inputs(config: Any) -> tuple[Any, ...]:
    if not isinstance(config, OccupancyConfig):
        return (torch.randn(2, 1, *(8,) * config.spatial_dims),)
    return torch.randn(2, 1, 4, 4, 4), 8 * torch.rand(2, 5, 3), torch.randn(2, 5, 1, 3, 3, 3), (8, 8, 8)


def logits(network: nn.Module, values: tuple[Any, ...]) -> Tensor:
    result = network(*values)
    return result if isinstance(result, Tensor) else result.logits


# Both backends run what was traced without a compiler; the second also traces the backward pass's operations.
@pytest.mark.parametrize(
    ("name", "fields", "backend"),
    [
        ("oss-net-a", SMALL_OCCUPANCY, "eager"),
        pytest.param("oss-net-a", SMALL_OCCUPANCY, "aot_eager", marks=pytest.mark.slow),
        ("unet-3d", SMALL_UNET, "aot_eager"),
        ("unet-3d", {**SMALL_UNET, "checkpoint_activations": True}, "aot_eager"),
        ("unet-2d", SMALL_UNET, "aot_eager"),
    ],
)
def test_compiled_networks_compute_the_same(name: str, fields: dict[str, Any], backend: str) -> None:
    torch.manual_seed(0)
    plain = build_network(name, **fields)
    values = inputs(plain.config)
    torch.compiler.reset()
    compiled = torch.compile(copy.deepcopy(plain), backend=backend, fullgraph=True)  # a break is an error
    with torch.no_grad():
        torch.testing.assert_close(logits(compiled.eval(), values), logits(plain.eval(), values))
    for network in (plain.train(), compiled.train()):
        logits(network, values).square().mean().backward()
    for (key, expected), found in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        if expected.grad is None:  # the auxiliary head's
            assert found.grad is None
        else:
            torch.testing.assert_close(found.grad, expected.grad, msg=key)
    for expected, found in zip(plain.buffers(), compiled.buffers(), strict=True):
        torch.testing.assert_close(found, expected)
