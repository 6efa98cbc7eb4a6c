"""Coarser volumes, made without the fine ones, against padding and pooling as torch has them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional

from ossnet.sampling.downscale import classes_in_cells, downscale, downscale_planes, max_pool_any
from ossnet.sampling.grid import pad
from ossnet.sampling.transforms import planes
from ossnet.sampling.transforms.planes import as_tensor

EDGES = st.tuples(*[st.integers(1, 12)] * 3)


@given(
    shape=EDGES,
    room=st.tuples(*[st.integers(0, 7)] * 3),
    factor=st.integers(1, 3),
    mirrored=st.sampled_from([(), (0,), (1,), (0, 1)]),
    seed=st.integers(0, 99),
)
def test_downscaling_is_padding_and_averaging(
    shape: tuple[int, int, int],
    room: tuple[int, int, int],
    factor: int,
    mirrored: tuple[int, ...],
    seed: int,
) -> None:
    volume = np.random.default_rng(seed).normal(size=(2, *shape)).astype(np.float16)
    volume.setflags(write=False)
    seen = torch.from_numpy(np.flip(volume, [axis + 1 for axis in mirrored]).astype(np.float32))
    working = [max(edge + more, factor) for edge, more in zip(shape, room, strict=True)]
    expected = functional.avg_pool3d(pad(seen, working), factor)
    for on_cpu in (True, False):
        room = torch.full((*expected.shape[1:], 2), torch.nan).movedim(-1, 0)  # channels last, as in a batch
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(planes, "on_cpu", lambda _, on_cpu=on_cpu: on_cpu)
            downscale(as_tensor(volume), mirrored, working, factor, out=room)
        torch.testing.assert_close(room, expected, atol=1e-6, rtol=1e-5, check_stride=False)


def test_downscaling_by_two_is_trilinear_interpolation() -> None:
    volume = torch.rand(3, 8, 6, 4)
    expected = functional.interpolate(volume[None], scale_factor=0.5, mode="trilinear")[0]
    torch.testing.assert_close(downscale_planes(volume.unbind(1), (8, 6, 4), 2), expected)


@given(
    mask=arrays(bool, st.tuples(*[st.integers(3, 12)] * 3)),
    grid=st.tuples(*[st.integers(1, 3)] * 3),
)
def test_cells_hold_what_adaptive_pooling_finds(mask: np.ndarray, grid: tuple[int, int, int]) -> None:
    found = max_pool_any(torch.from_numpy(mask), grid)
    expected = functional.adaptive_max_pool3d(torch.from_numpy(mask)[None].float(), grid)[0]
    assert torch.equal(found.float(), expected)


@given(shape=EDGES, cells=EDGES, classes=st.integers(1, 200), seed=st.integers(0, 99))
def test_classes_in_cells_are_each_classs_maximum(
    shape: tuple[int, int, int], cells: tuple[int, int, int], classes: int, seed: int
) -> None:
    """Also where the cells do not divide the volume, and so overlap."""
    codes = torch.from_numpy(np.random.default_rng(seed).integers(0, classes + 1, shape, np.uint8))
    grid = [min(pair) for pair in zip(shape, cells, strict=True)]
    found = classes_in_cells(codes, grid, classes)
    expected = torch.stack([max_pool_any(codes == number, grid) for number in range(1, classes + 1)])
    assert torch.equal(found, expected)
