"""Voxels by their places in a flattened grid, against NumPy."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ossnet.inference.methods.places import box_places, ravel, true_places, unravel

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))


@given(arrays(np.bool_, SHAPES))
def test_places_of_a_flattened_grid(cells: np.ndarray) -> None:
    places = true_places(torch.from_numpy(cells))
    assert np.array_equal(places, np.flatnonzero(cells))
    assert np.array_equal(unravel(places, cells.shape), np.argwhere(cells))
    assert torch.equal(ravel(unravel(places, cells.shape), cells.shape), places)


@given(arrays(np.bool_, SHAPES), st.data())
def test_places_of_a_box(cells: np.ndarray, data: st.DataObject) -> None:
    starts = [data.draw(st.integers(0, edge - 1)) for edge in cells.shape]
    box = tuple(
        slice(start, data.draw(st.integers(start + 1, edge)))
        for start, edge in zip(starts, cells.shape, strict=True)
    )
    inside = np.zeros_like(cells)
    inside[box] = cells[box]
    found = box_places(torch.from_numpy(np.ascontiguousarray(cells[box])), box, cells.shape)
    assert np.array_equal(found, np.flatnonzero(inside))
