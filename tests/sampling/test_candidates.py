"""Border, surface and classes of a label, against scipy and exhaustive search; the cache's bound."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from ossnet.sampling import SamplingConfig
from ossnet.sampling.candidates import (
    ForegroundCache,
    PointCandidates,
    border_within_mm,
    border_within_voxels,
    find_foreground,
)

SHAPE = (6, 5, 7)


def ball(shape: tuple[int, int, int], center: tuple[int, int, int], radius: float) -> np.ndarray:
    axes = np.ogrid[tuple(slice(edge) for edge in shape)]
    return sum((axis - middle) ** 2 for axis, middle in zip(axes, center, strict=True)) <= radius**2


def marked(numbers: torch.Tensor, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask.reshape(-1)[numbers.numpy()] = True
    assert mask.sum() == len(numbers)
    return mask


@pytest.mark.parametrize("center", [(10, 11, 9), (0, 19, 9)])
def test_the_papers_band_is_the_dilated_change_of_the_mask(center: tuple[int, int, int]) -> None:
    mask = ball((24, 20, 18), center, 4)
    cube = np.ones((3, 3, 3))
    # Beyond the grid there is no voxel, hence no change: a mask at the wall has no border there.
    change = ndimage.binary_dilation(mask, cube) & ndimage.binary_dilation(~mask, cube)
    expected = ndimage.binary_dilation(change, cube, iterations=2)
    found = border_within_voxels(torch.from_numpy(mask), 2)
    np.testing.assert_array_equal(marked(found, mask.shape), expected)


@given(
    mask=arrays(bool, SHAPE, elements=st.booleans(), fill=st.just(False)).filter(np.any),
    spacing=st.tuples(*[st.sampled_from([0.5, 1.0, 2.5])] * 3),
    width=st.sampled_from([0.4, 1.0, 2.0, 30.0]),
)
def test_the_border_in_mm_is_that_of_the_definition(
    mask: np.ndarray, spacing: tuple[float, float, float], width: float
) -> None:
    places = np.argwhere(np.ones(SHAPE)) * spacing
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    other = mask.reshape(-1)[:, None] != mask.reshape(-1)
    expected = (np.where(other, distances, np.inf).min(1) <= width + 1e-6).reshape(SHAPE)
    found = border_within_mm(torch.from_numpy(mask), spacing, width)
    np.testing.assert_array_equal(marked(found, SHAPE), expected)


@given(label=arrays(np.uint8, SHAPE, elements=st.integers(0, 3), fill=st.just(0)))
def test_classes_and_surface(label: np.ndarray) -> None:
    config = SamplingConfig(foreground_fraction=0.5, gaussian_fraction=0.5)
    found = find_foreground(torch.from_numpy(label), (1, 1, 1), config)
    present = [index for index in (1, 2, 3) if (label == index).any()]
    assert len(found.classes) == len(present)
    for index, numbers in zip(present, found.classes, strict=True):
        np.testing.assert_array_equal(marked(numbers, SHAPE), label == index)
    padded = np.pad(label == 0, 1)  # no background beyond the walls
    beside = np.zeros(SHAPE, bool)
    for axis in range(3):
        for step in (-1, 1):
            beside |= np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]
    np.testing.assert_array_equal(marked(found.surface, SHAPE), (label > 0) & beside)
    assert not len(found.border)


def test_the_cache_keeps_what_was_used_last_within_its_bound() -> None:
    def foreground(size: int) -> PointCandidates:
        none = torch.empty(0, dtype=torch.int32)
        return PointCandidates((), torch.zeros(size, dtype=torch.int32), none)

    found = []

    def get(case: str, size: int) -> PointCandidates:
        return cache.get(case, lambda: found.append(case) or foreground(size))  # type: ignore[func-returns-value]

    cache = ForegroundCache(limit=4 * 100)
    first = get("a", 40)
    assert get("b", 40) is not first
    assert get("a", 40) is first
    get("c", 40)  # b was used longest ago
    assert cache.nbytes <= 400
    assert get("a", 40) is first
    get("b", 40)
    assert found == ["a", "b", "c", "b"]
    assert len(get("large", 1000).border) == 1000  # larger than the bound, and served all the same
