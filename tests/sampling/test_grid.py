"""The working grid: centring, downscaling, coordinates."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ossnet.sampling.grid import coordinates, offset, pad, working_shape

edges = st.tuples(*[st.integers(1, 9)] * 3)


def test_brats_is_padded_as_in_the_paper() -> None:
    assert working_shape((240, 240, 155), multiple=32) == (256, 256, 160)
    assert offset((240, 240, 155), (256, 256, 160)) == (8, 8, 3)


@given(shape=edges, room=st.tuples(*[st.integers(0, 5)] * 3))
def test_padding_keeps_the_volume_at_its_offset(
    shape: tuple[int, int, int], room: tuple[int, int, int]
) -> None:
    working = tuple(edge + more for edge, more in zip(shape, room, strict=True))
    volume = torch.rand(2, *shape) + 1
    padded = pad(volume, working)
    assert padded.shape == (2, *working)
    box = tuple(slice(first, first + edge) for first, edge in zip(offset(shape, working), shape, strict=True))
    assert torch.equal(padded[(slice(None), *box)], volume)
    assert padded.sum() == pytest.approx(volume.sum().item(), rel=1e-5)


@given(shape=st.tuples(*[st.integers(1, 512)] * 3))
def test_coordinates_go_back_to_voxel_indices(shape: tuple[int, int, int]) -> None:
    indices = torch.stack([torch.tensor([0, edge // 2, edge - 1]) for edge in shape], dim=1)
    scaled = coordinates(indices, shape)
    assert scaled.abs().max() <= 1
    last = torch.tensor([edge - 1 for edge in shape])
    torch.testing.assert_close((scaled + 1) / 2 * last, indices.float(), atol=1e-4, rtol=0)
