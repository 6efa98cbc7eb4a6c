import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import zoom

from ossnet.data.imaging.resampling import (
    coarse_axis,
    interpolate,
    interpolate_labels,
    interpolation_memory,
    keep_zeros,
    nearest,
)

SHAPES = st.tuples(*[st.integers(1, 12)] * 3)
AXES = st.sampled_from([None, 0, 1, 2])


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [
        ((1, 1, 1), None),
        ((0.7, 0.7, 2.0), None),
        ((0.7, 0.7, 2.2), 2),
        ((5, 0.9, 0.9), 0),
        ((0.3, 1.0, 1.0), None),  # two coarse axes have no plane between them
        ((0.4, 0.9, 3.0), 2),
    ],
)
def test_an_axis_far_coarser_than_the_others_is_found(spacing, axis):
    assert coarse_axis(spacing) == axis


@pytest.mark.parametrize(("kind", "order"), [("linear", 1), ("cubic", 3)])
@pytest.mark.parametrize("new", [(11, 9, 17), (5, 4, 6), (8, 9, 4)])
def test_axis_by_axis_equals_the_whole_at_once(kind, order, new):
    array = noise(8, 9, 10)
    factors = [after / before for after, before in zip(new, array.shape, strict=True)]
    whole = zoom(array, factors, order=order, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(
        interpolate(array, new, kind=kind), np.clip(whole, array.min(), array.max()), atol=1e-5
    )


def test_splines_follow_a_smooth_image_closer_than_lines():
    def wave(size: int) -> np.ndarray:
        centers = (np.arange(size) + 0.5) / size
        x, y, z = np.meshgrid(centers, centers, centers, indexing="ij")
        return (np.sin(7 * x) * np.cos(5 * y) * np.sin(6 * z)).astype(np.float32)

    inner = (slice(4, -4),) * 3
    errors = {
        kind: np.abs(interpolate(wave(16), (40, 40, 40), kind=kind) - wave(40))[inner].max()
        for kind in ("linear", "cubic")
    }
    assert errors["cubic"] < errors["linear"] / 3


@given(old=SHAPES, new=SHAPES, kind=st.sampled_from(["linear", "cubic"]), coarse=AXES)
def test_nothing_leaves_the_range(old, new, kind, coarse):
    array = noise(*old)
    result = interpolate(array, new, kind=kind, coarse=coarse)
    assert (result.shape, result.dtype) == (new, np.float32)
    assert result.min() >= array.min()
    assert result.max() <= array.max()
    constant = np.full(old, 3, np.float32)
    np.testing.assert_array_equal(interpolate(constant, new, kind=kind, coarse=coarse), 3)


@given(old=SHAPES, new=SHAPES, coarse=AXES)
def test_labels_stay_labels(old, new, coarse):
    labels = np.random.default_rng(1).choice([0, 2, 5], old).astype(np.uint8)
    result = interpolate_labels(labels, new, coarse=coarse)
    assert (result.shape, result.dtype) == (new, np.uint8)
    assert set(np.unique(result)) <= set(np.unique(labels))
    assert np.unique(interpolate_labels(np.full(old, 4, np.uint8), new, coarse=coarse)).tolist() == [4]


@given(coarse=st.integers(0, 2), new=SHAPES)
def test_between_far_planes_nothing_is_made_up(coarse, new):
    """Along a through-plane axis every plane is one of the old ones, interpolated within itself."""
    array, labels = noise(6, 5, 7), np.random.default_rng(2).integers(0, 3, (6, 5, 7)).astype(np.uint8)
    within = tuple(
        old if axis == coarse else size for axis, (old, size) in enumerate(zip((6, 5, 7), new, strict=True))
    )
    for values, function in ((array, interpolate), (labels, interpolate_labels)):
        planes = np.moveaxis(function(values, within), coarse, 0)
        found = np.moveaxis(function(values, new, coarse=coarse), coarse, 0)
        places = np.minimum(
            ((np.arange(len(found)) + 0.5) * len(planes) / len(found)).astype(int), len(planes) - 1
        )
        np.testing.assert_allclose(found, planes[places], atol=1e-6)


def test_a_ball_keeps_its_volume_and_loses_its_steps():
    def ball(size: int) -> np.ndarray:
        centers = (np.arange(size) + 0.5) / size - 0.5
        x, y, z = np.meshgrid(centers, centers, centers, indexing="ij")
        return (x**2 + y**2 + z**2 < 0.3**2).astype(np.uint8)

    coarse, fine = ball(20), ball(50)
    smooth, stepped = interpolate_labels(coarse, fine.shape), nearest(coarse, fine.shape)
    assert smooth.sum() == pytest.approx(fine.sum(), rel=0.03)
    assert (smooth != fine).sum() < 0.7 * (stepped != fine).sum()


def test_a_tie_goes_to_the_structure():
    """Halving a grid gives weights of exactly one half, which must not eat a structure away."""
    labels = np.zeros((4, 1, 1), np.uint8)
    labels[1:3] = 1
    assert interpolate_labels(labels, (2, 1, 1)).ravel().tolist() == [1, 1]


def test_an_edge_leaves_no_halo_in_the_background():
    array = np.zeros((10, 10, 10), np.float32)
    array[3:7, 3:7, 3:7] = 100 + noise(4, 4, 4)
    image = interpolate(array, (23, 17, 10), kind="cubic")
    inside = nearest(array, (23, 17, 10)) != 0
    assert image[~inside].any()
    before = image.copy()
    keep_zeros(image, array)
    assert not image[~inside].any()
    np.testing.assert_array_equal(image[inside], before[inside])


@pytest.mark.parametrize("coarse", [None, 0, 2])
@pytest.mark.parametrize("new", [(90, 70, 80), (40, 30, 50), (64, 64, 100), (100, 64, 64)])
def test_what_it_takes_is_known_beforehand(new, coarse):
    array = noise(64, 64, 64)
    interpolate(array, new, kind="cubic", coarse=coarse)  # imports
    tracemalloc.start()
    interpolate(array, new, kind="cubic", coarse=coarse)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    promised = interpolation_memory(array.shape, new, coarse=coarse)
    planes = 100 * max(new) ** 2
    assert peak < promised + planes
    assert promised < 1.1 * peak
