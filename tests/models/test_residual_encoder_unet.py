"""The strong baseline: levels that are supervised in training only, on any size of image."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ossnet.models import ResidualEncoderUNet, build_network

NAME, LEVELS = "residual-encoder-unet", (2, 3, 4, 5, 6)


@settings(max_examples=10)
@given(
    grid=st.tuples(st.integers(17, 24), st.integers(1, 20), st.integers(1, 20)),
    levels=st.integers(2, 5),
    classes=st.integers(1, 3),
)
def test_coarser_levels_predict_every_second_voxel_and_in_training_only(
    grid: tuple[int, int, int], levels: int, classes: int
) -> None:
    network = build_network(NAME, channels=LEVELS[:levels], classes=classes)
    image, logits = torch.randn(1, 1, *grid), network.config.logits
    outputs = network(image)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    assert len(outputs) == max(levels - 2, 1)  # all that are decoded but the coarsest, as in nnU-Net
    for level, each in enumerate(outputs):
        assert each.shape == (1, logits, *image[0, 0, :: 2**level, :: 2**level, :: 2**level].shape)
    finest = network.eval()(image)
    assert torch.equal(finest, outputs[0])


def test_slices_and_a_network_without_deep_supervision() -> None:
    plane = build_network(NAME, channels=LEVELS, spatial_dims=2)
    assert [tuple(each.shape) for each in plane(torch.randn(2, 1, 20, 18))] == [
        (2, 1, 20, 18),
        (2, 1, 10, 9),
        (2, 1, 5, 5),
    ]
    network = build_network(NAME, channels=LEVELS, deep_supervision=False)
    assert network(torch.randn(1, 1, 20, 18, 17)).shape == (1, 1, 20, 18, 17)


def test_it_is_as_large_as_nnunets_and_learns() -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        whole = build_network(NAME, in_channels=4, classes=3)
    assert 15e6 < sum(each.numel() for each in whole.parameters()) < 35e6
    network = build_network(NAME, channels=(4, 6, 8))
    image = torch.randn(1, 1, 12, 12, 10)
    optimizer, losses = torch.optim.Adam(network.parameters(), lr=1e-2), []
    for _ in range(6):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(image), (image > 0).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_every_weight_counts_and_recomputing_changes_nothing() -> None:
    torch.manual_seed(0)
    plain = build_network(NAME, channels=LEVELS, classes=2)
    recomputing = ResidualEncoderUNet(
        build_network(NAME, channels=LEVELS, classes=2, checkpoint_activations=True).config
    )
    recomputing.load_state_dict(copy.deepcopy(plain.state_dict()))
    image, gradients = torch.randn(2, 1, 20, 17, 18), []
    for network in (plain, recomputing):
        sum(each.square().mean() for each in network(image)).backward()
        gradients.append([each.grad for each in network.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert one is not None
        torch.testing.assert_close(one, other)


def test_bfloat16_runs_where_two_planes_are_left() -> None:
    network = build_network(NAME, channels=(4, 8, 8))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(torch.randn(1, 1, 8, 16, 16)).float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


def test_an_image_that_is_reduced_to_a_voxel_is_refused() -> None:
    network = build_network(NAME, channels=(2, 3, 4))
    with pytest.raises(
        ValueError, match=r"image: \(4, 3, 4\) reduces to one voxel over channels=\(2, 3, 4\)"
    ):
        network(torch.zeros(1, 1, 4, 3, 4))
    with pytest.raises(ValueError, match="channels: expected two levels or more"):
        build_network(NAME, channels=(8,))
