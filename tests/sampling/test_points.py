"""Where points are drawn: shares, balance, reproducibility, and what cannot be drawn."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ossnet.sampling import SamplingConfig
from ossnet.sampling.candidates import border_within_mm, find_foreground
from ossnet.sampling.points import draw_points

SPACING = (1.0, 1.0, 1.0)


def ball(shape: tuple[int, int, int], center: tuple[int, int, int], radius: float) -> torch.Tensor:
    axes = np.ogrid[tuple(slice(edge) for edge in shape)]
    squares = sum((axis - middle) ** 2 for axis, middle in zip(axes, center, strict=True))
    return torch.from_numpy((squares <= radius**2).astype(np.uint8))


def draw(
    label: torch.Tensor,
    config: SamplingConfig,
    seed: int = 0,
    spacing: tuple[float, float, float] = SPACING,
) -> torch.Tensor:
    foreground = find_foreground(label, spacing, config)
    return draw_points(foreground, label.shape, spacing, config, torch.Generator().manual_seed(seed))


def count_in(mask: torch.Tensor, points: torch.Tensor) -> int:
    return int(mask[tuple(points.T)].sum())


SHARES = ("border_fraction", "foreground_fraction", "gaussian_fraction", "uncertain_fraction")


@given(
    points=st.integers(1, 300),
    parts=st.lists(st.integers(0, 5), min_size=5, max_size=5).filter(any),
    seed=st.integers(0, 1000),
)
def test_shares_and_the_uniform_rest_add_to_one(points: int, parts: list[int], seed: int) -> None:
    label = ball((16, 15, 14), (8, 7, 6), 3)
    shares = [part / sum(parts) for part in parts[:4]]  # the fifth is the uniform rest
    config = SamplingConfig(points=points, border_width=1, **dict(zip(SHARES, shares, strict=True)))  # type: ignore[arg-type]
    drawn = draw(label, config, seed)
    kept = drawn[: len(drawn) - config.candidates]
    assert len(kept) + config.uncertain_points == points
    assert config.candidates == 3 * int(points * shares[3])
    assert (drawn >= 0).all()
    assert (drawn < torch.tensor(label.shape)).all()
    border = torch.zeros(label.numel(), dtype=torch.bool)
    border[border_within_mm(label > 0, SPACING, 1.0).long()] = True
    assert count_in(border.view(label.shape), kept) >= int(points * shares[0])
    assert count_in(label > 0, kept) >= int(points * shares[1])


def test_uniform_points_reach_the_last_index_of_every_axis() -> None:
    drawn = draw(torch.zeros(4, 3, 5, dtype=torch.uint8), SamplingConfig(points=2000))
    assert drawn.max(dim=0).values.tolist() == [3, 2, 4]
    counts = torch.bincount(drawn[:, 0], minlength=4).float() / 2000
    assert (counts - 0.25).abs().max() < 0.04


def test_the_foreground_share_is_balanced_over_the_classes_a_case_has() -> None:
    label = torch.zeros(30, 30, 30, dtype=torch.uint8)
    label[2:20, 2:20, 2:20] = 1
    label[25, 25, 25] = 4
    drawn = draw(label, SamplingConfig(points=4000, foreground_fraction=1.0))
    values = label[tuple(drawn.T)]
    assert set(values.tolist()) == {1, 4}
    assert abs(int((values == 4).sum()) - 2000) < 150


def test_gaussian_points_scatter_about_the_surface_in_mm() -> None:
    label = torch.zeros(41, 41, 21, dtype=torch.uint8)
    label[20, 20, 10] = 1  # all of its surface is one voxel
    spacing = (0.5, 1.0, 2.0)
    config = SamplingConfig(points=5000, gaussian_fraction=1.0, gaussian_width=3.0)
    offsets = (draw(label, config, spacing=spacing) - torch.tensor([20, 20, 10])) * torch.tensor(spacing)
    assert offsets.mean(0).abs().max() < 0.2
    assert (offsets.std(0) - 3).abs().max() < 0.2


def test_gaussian_points_stay_inside_the_volume() -> None:
    label = torch.ones(3, 3, 3, dtype=torch.uint8)
    label[0] = 0
    drawn = draw(label, SamplingConfig(points=500, gaussian_fraction=1.0, gaussian_width=50.0))
    assert drawn.min() == 0
    assert drawn.max() == 2


def test_a_case_without_foreground_is_drawn_uniformly() -> None:
    config = SamplingConfig(points=50, border_fraction=0.4, foreground_fraction=0.3, gaussian_fraction=0.3)
    assert draw(torch.zeros(6, 6, 6, dtype=torch.uint8), config).shape == (50, 3)


def test_equal_seeds_give_equal_points() -> None:
    label = ball((12, 12, 12), (6, 6, 6), 3)
    config = SamplingConfig(points=64, border_fraction=0.2, gaussian_fraction=0.3, foreground_fraction=0.2)
    assert torch.equal(draw(label, config, 5), draw(label, config, 5))
    assert not torch.equal(draw(label, config, 5), draw(label, config, 6))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"border_fraction": 0.6, "foreground_fraction": 0.5}, "border_fraction"),
        ({"border_fraction": -0.1, "foreground_fraction": 0.2}, "border_fraction"),
        (
            {"gaussian_fraction": 0.6, "uncertain_fraction": 0.5},
            "uncertain_fraction: expected positive fractions of at most 1",
        ),
        ({"border_fraction": float("nan")}, "border_fraction"),
        ({"points": 0}, "points: expected at least 1"),
        ({"uncertain_candidates": 0}, "uncertain_candidates: expected at least 1"),
        ({"border_width": 0.0}, "border_width: expected a number above 0"),
        ({"gaussian_width": -1.0}, "gaussian_width: expected a number above 0"),
        ({"border_width": 2.5, "border_unit": "voxels"}, "whole number of voxels, found 2.5"),
    ],
)
def test_what_cannot_be_drawn_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingConfig(**fields)
