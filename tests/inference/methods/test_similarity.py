"""How long to continue the search for similar voxels."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from ossnet.data.labels.scheme import ClassScheme
from ossnet.inference.methods import similarity
from ossnet.inference.methods.lattice import upsample_linear
from ossnet.inference.methods.similarity import (
    EXTRA_QUERIES_FRACTION,
    SLAB,
    _around_planes,
    _around_voxels,
    _convolve,
    _query_by_score,
)
from ossnet.inference.methods.voxel_state import VoxelState


class Volume:
    """Voxels in a row, which are in the class or not."""

    uses_patches = True

    def __init__(self, inside: Tensor) -> None:
        self.shape, self._inside = (1, 1, len(inside)), inside

    def points(self, voxels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        yield voxels, torch.where(self._inside[voxels[:, 2]], 1.0, -1.0)[:, None]


@given(
    length=st.integers(1, 400),
    extra=st.integers(1, 60),
    hits=st.sets(st.integers(0, 399), max_size=12),
    seed=st.integers(0, 99),
)
def test_the_search_ends_when_it_was_long_without_a_hit(
    length: int, extra: int, hits: set[int], seed: int
) -> None:
    """The likeliest are queried, up to the rank of the last hit, its fraction more and the extra."""
    order = torch.randperm(length, generator=torch.Generator().manual_seed(seed))
    ranks = order.argsort()
    inside = torch.isin(ranks, torch.tensor(sorted(hits), dtype=torch.long))
    state = VoxelState(Volume(inside), ClassScheme(1), device=torch.device("cpu"))  # type: ignore[arg-type]
    _query_by_score(state, torch.arange(length), -ranks.float(), 0, extra)
    queried = ranks[state.evaluated[0, 0]].sort().values
    assert queried.tolist() == list(range(len(queried)))
    last, enough = 0, extra
    for rank in sorted(hit + 1 for hit in hits if hit < length):
        if rank <= enough:
            last, enough = rank, int((1 + EXTRA_QUERIES_FRACTION) * rank) + extra
    assert len(queried) == min(enough, length)
    assert int(state.codes.sum()) == sum(hit < last for hit in hits)


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 9), st.integers(1, 9)),
    coarser=st.booleans(),
    seed=st.integers(0, 99),
)
def test_what_lattices_say_of_slabs_and_of_voxels(
    shape: tuple[int, int, int], coarser: bool, seed: int
) -> None:
    """The same as over the whole volume; where the finest has a point, the coarser one speaks."""
    generator = torch.Generator().manual_seed(seed)
    lattices = [
        torch.randn([-(-edge // stride) for edge in shape], generator=generator)
        for stride in ((4, 2) if coarser else (2,))
    ]
    expected = upsample_linear(lattices[-1][None], 2, shape)[0].clone()
    if coarser:
        points = expected[::2, ::2, ::2]
        points[...] = upsample_linear(lattices[0][None], 2, points.shape)[0]
    slabs = [
        _around_planes(lattices, first, (min(SLAB, shape[0] - first), *shape[1:]))
        for first in range(0, shape[0], SLAB)
    ]
    torch.testing.assert_close(torch.cat(slabs), expected)
    every = torch.ones(shape).nonzero()
    torch.testing.assert_close(_around_voxels(lattices, every).view(shape), expected)


@given(
    channels=st.integers(1, 3),
    shape=st.tuples(st.integers(1, 7), st.integers(1, 7), st.integers(1, 7)),
    at_once=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_a_convolution_in_parts_is_the_whole_one(
    channels: int, shape: tuple[int, int, int], at_once: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(channels, *shape, generator=generator)
    kernel = torch.randn(channels, 3, 3, 3, generator=generator)
    total = torch.ones(shape)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(similarity, "VOXELS_AT_ONCE", at_once)
        _convolve(image, kernel, total)
    expected = 1 + functional.conv3d(image[None], kernel[None], padding=1)[0, 0]
    torch.testing.assert_close(total, expected, atol=1e-4, rtol=1e-4)
