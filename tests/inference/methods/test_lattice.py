"""Points and cells of a lattice, and where codes change, against scipy's filters."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from ossnet.data.labels.scheme import ClassScheme
from ossnet.inference.methods.lattice import (
    boundary_mask,
    cell_reduce,
    corner_mask,
    is_ambiguous,
    subgrid,
    unravel,
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
def test_places_of_a_flattened_grid(cells: np.ndarray) -> None:
    places = torch.from_numpy(np.flatnonzero(cells))
    assert np.array_equal(unravel(places, cells.shape), np.argwhere(cells))


@given(CELLS)
def test_points_touch_the_cells_that_begin_at_or_before_them(cells: np.ndarray) -> None:
    expected = ndimage.maximum_filter(cells, 2, mode="constant")
    assert np.array_equal(corner_mask(torch.from_numpy(cells)), expected)


@given(CODES)
def test_next_to_a_change(codes: np.ndarray) -> None:
    """Faces of any code; corners of another class, which the background is not."""
    cross = ndimage.generate_binary_structure(3, 1)
    faces = np.zeros(codes.shape, bool)
    corners = np.zeros(codes.shape, bool)
    for code in np.unique(codes):
        faces |= ndimage.binary_dilation(codes == code, cross) & (codes != code)
        if code:
            corners |= ndimage.binary_dilation(codes == code, np.ones((3, 3, 3))) & (codes != code)
    found = torch.from_numpy(codes)
    assert np.array_equal(boundary_mask(found, corners=False), faces)
    assert np.array_equal(boundary_mask(found, corners=True), faces | corners)


@given(SHAPES, st.integers(1, 4))
def test_an_upsampled_lattice_keeps_its_points(shape: tuple[int, int, int], stride: int) -> None:
    voxels = torch.rand(shape)
    filled = upsample_nearest(subgrid(voxels, stride), stride, shape)
    assert filled.shape == shape
    assert torch.equal(subgrid(filled, stride), subgrid(voxels, stride))


@given(SHAPES, st.integers(1, 4), st.integers(0, 2**16))
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


def test_farther_apart_points_are_ambiguous_from_farther() -> None:
    """0.02 is a logit of -3.89; what is decided for is queried half as far."""
    logits = torch.tensor([[-16.0, -8.0, -7.0, -4.0, -3.8, 0.0, 1.9, 2.0, 3.8, 4.0, 7.7, 8.0]])
    for stride, lowest, highest in ((1, -3.8, 1.9), (4, -3.8, 1.9), (8, -7.0, 3.8), (16, -8.0, 7.7)):
        found = is_ambiguous(logits, 0.02, stride, ClassScheme(1))
        expected = (logits[0] >= lowest) & (logits[0] <= highest)
        assert torch.equal(found, expected), stride
