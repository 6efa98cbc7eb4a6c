"""Points and cells of a lattice, against scipy's filters."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from ossnet.data.labels.scheme import ClassScheme
from ossnet.inference.methods.lattice import (
    cell_reduce,
    corner_mask,
    extent,
    interpolate_at,
    is_ambiguous,
    may_be_foreground,
    subgrid,
    upsample_linear,
    upsample_nearest,
)

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
CODES = arrays(np.uint8, SHAPES, elements=st.integers(0, 3))
CELLS = arrays(np.bool_, SHAPES)


@given(CODES)
def test_corners_of_a_cell_are_its_point_and_those_after_it(codes: np.ndarray) -> None:
    expected = ndimage.maximum_filter(codes, 2, origin=-1)
    assert np.array_equal(cell_reduce(torch.from_numpy(codes), torch.maximum), expected)


@given(CELLS)
def test_points_touch_the_cells_that_begin_at_or_before_them(cells: np.ndarray) -> None:
    expected = ndimage.maximum_filter(cells, 2, mode="constant")
    assert np.array_equal(corner_mask(torch.from_numpy(cells)), expected)


@given(SHAPES, st.integers(1, 4))
def test_an_upsampled_lattice_keeps_its_points(shape: tuple[int, int, int], stride: int) -> None:
    voxels = torch.rand(shape)
    filled = upsample_nearest(subgrid(voxels, stride), stride, shape)
    assert filled.shape == shape
    assert torch.equal(subgrid(filled, stride), subgrid(voxels, stride))


@given(SHAPES, st.sampled_from((1, 2, 4, 8)), st.integers(0, 2**16))
def test_between_points_of_a_lattice_logits_are_linear(
    shape: tuple[int, int, int], stride: int, seed: int
) -> None:
    """As scipy interpolates; beyond the last point as there."""
    points = np.random.default_rng(seed).normal(size=[-(-edge // stride) for edge in shape])
    ends = np.reshape(points.shape, (3, 1, 1, 1)) - 1
    places = np.minimum(np.indices(shape) / stride, ends)
    expected = ndimage.map_coordinates(points, places, order=1)
    found = upsample_linear(torch.from_numpy(points)[None], stride, shape)[0]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    at = interpolate_at(torch.from_numpy(points), stride, torch.ones(shape).nonzero())
    np.testing.assert_allclose(at.view(shape), expected, atol=1e-5)


def test_farther_apart_points_are_ambiguous_from_farther() -> None:
    """0.02 is a logit of -3.89; what is decided for is queried half as far."""
    logits = torch.tensor([[-16.0, -8.0, -7.0, -4.0, -3.8, 0.0, 1.9, 2.0, 3.8, 4.0, 7.7, 8.0]])
    for stride, lowest, highest in ((1, -3.8, 1.9), (4, -3.8, 1.9), (8, -7.0, 3.8), (16, -8.0, 7.7)):
        found = is_ambiguous(logits, 0.02, stride, ClassScheme(1))
        expected = (logits[0] >= lowest) & (logits[0] <= highest)
        assert torch.equal(found, expected), stride


@given(
    shape=SHAPES,
    stride=st.sampled_from((1, 2, 4)),
    classes=st.integers(1, 3),
    overlapping=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_between_points_that_are_surely_background_is_nothing_else(
    shape: tuple[int, int, int], stride: int, classes: int, overlapping: bool, seed: int
) -> None:
    scheme = ClassScheme(classes, overlapping=overlapping and classes > 1)
    points = [-(-edge // stride) for edge in shape]
    logits = torch.randn(classes + (classes > 1 and not overlapping), *points) * 6
    logits[0] += 4 if classes > 1 and not overlapping else -4
    near = (
        upsample_linear(may_be_foreground(logits, 0.02, stride, scheme)[None].float(), stride, shape)[0] > 0
    )
    between = upsample_linear(logits, stride, shape)
    surely = scheme.decide(between.flatten(1).T).view(shape) == 0
    surely &= ~is_ambiguous(between, 0.02, stride, scheme)
    assert surely[~near].all()


@given(arrays(np.bool_, st.tuples(st.integers(1, 7), st.integers(1, 7))))
def test_the_extent_of_points_is_one_wider_on_every_side(points: np.ndarray) -> None:
    """As far as there are points."""
    wider = ndimage.binary_dilation(points, np.ones((3, 3)))
    found = extent(torch.from_numpy(points))
    assert (found is None) == (not points.any())
    if found is not None:
        assert found == ndimage.find_objects(wider.astype(int))[0]
