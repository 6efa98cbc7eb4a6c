"""Distances to surfaces, against the definition searched exhaustively."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ossnet.sampling.distance import signed_distances

SHAPE = (6, 5, 7)
EVERY = torch.cartesian_prod(*(torch.arange(edge) for edge in SHAPE))


def masks(label: np.ndarray | torch.Tensor, classes: int) -> torch.Tensor:
    return torch.stack([torch.as_tensor(label == index) for index in range(1, classes + 1)])


def by_search(mask: np.ndarray, spacing: tuple[float, float, float], reach: float) -> np.ndarray:
    """For every voxel the distance to the nearest voxel of the other kind, with a sign."""
    places = np.argwhere(np.ones(SHAPE)) * spacing
    inside = mask.reshape(-1)
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    to_inside = np.where(inside, distances, np.inf).min(1)
    to_outside = np.where(~inside, distances, np.inf).min(1)
    return np.clip(np.where(inside, -to_outside, to_inside) / reach, -1, 1)


@given(
    label=arrays(np.uint8, SHAPE, elements=st.integers(0, 2), fill=st.just(0)),
    spacing=st.tuples(*[st.sampled_from([0.5, 1.0, 2.5])] * 3),
    reach=st.sampled_from([0.7, 2.0, 30.0]),
)
def test_every_voxel_has_the_distance_of_the_definition(
    label: np.ndarray, spacing: tuple[float, float, float], reach: float
) -> None:
    found = signed_distances(masks(label, 2), EVERY, spacing=spacing, reach=reach)
    expected = [by_search(label == index, spacing, reach) for index in (1, 2)]
    np.testing.assert_allclose(found.numpy(), np.stack(expected, 1), atol=1e-6)


def test_a_class_that_fills_the_volume_or_is_absent_is_as_far_as_can_be() -> None:
    full = torch.ones(SHAPE, dtype=torch.uint8)
    found = signed_distances(masks(full, 2), EVERY, spacing=(1, 1, 1), reach=2.0)
    assert found.unique(dim=0).tolist() == [[-1.0, 1.0]]


def test_distances_are_in_mm() -> None:
    label = torch.zeros(9, 3, 3, dtype=torch.uint8)
    label[4] = 1
    points = torch.tensor([[index, 1, 1] for index in range(9)])
    found = signed_distances(masks(label, 1), points, spacing=(0.5, 9.0, 9.0), reach=4.0)
    assert found[:, 0].tolist() == pytest.approx([0.5, 0.375, 0.25, 0.125, -0.125, 0.125, 0.25, 0.375, 0.5])


def test_each_of_two_regions_has_its_own_distances() -> None:
    """One inside the other: the outer one's surface is as if the inner one were not there."""
    inner = torch.zeros(9, 9, 9, dtype=torch.bool)
    inner[4, 4, 4] = True
    outer = torch.zeros_like(inner)
    outer[2:7, 2:7, 2:7] = True
    points = torch.tensor([[4, 4, 4], [4, 4, 6], [4, 4, 8]])
    found = signed_distances(torch.stack([outer, inner]), points, spacing=(1, 1, 1), reach=10.0)
    torch.testing.assert_close(10 * found, torch.tensor([[-3.0, -1.0], [-1.0, 2.0], [2.0, 4.0]]))
