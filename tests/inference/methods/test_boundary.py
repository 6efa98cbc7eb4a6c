"""Where codes change, against scipy's filters; around single voxels, against the whole volume."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from ossnet.inference.methods.boundary import boundary_mask, places_beside

SHAPES = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
CODES = arrays(np.uint8, SHAPES, elements=st.integers(0, 3))


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


@given(codes=CODES, corners=st.booleans(), data=st.data())
def test_a_voxel_that_changes_brings_the_boundary_beside_it(
    codes: np.ndarray, corners: bool, data: st.DataObject
) -> None:
    place = data.draw(st.integers(0, codes.size - 1))
    changed = torch.from_numpy(codes.copy())
    changed.view(-1)[place] = data.draw(st.integers(0, 3))
    before = boundary_mask(torch.from_numpy(codes), corners=corners)
    after = boundary_mask(changed, corners=corners)
    beside = set(places_beside(torch.tensor([place]), changed, corners=corners).tolist())
    new = set((after & ~before).flatten().nonzero()[:, 0].tolist()) - {place}
    assert new <= beside <= set(after.flatten().nonzero()[:, 0].tolist())
