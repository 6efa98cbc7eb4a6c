"""How long to continue the search for similar voxels."""

from collections.abc import Iterator

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ossnet.data.labels.scheme import ClassScheme
from ossnet.inference.methods.lattice import VoxelState
from ossnet.inference.methods.similarity import EXTRA_QUERIES_FRACTION, _query_by_score


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
    every = torch.ones(1, 1, length, dtype=torch.bool)
    _query_by_score(state, every, -ranks.float().view(1, 1, -1), 0, extra)
    queried = ranks[state.evaluated[0, 0]].sort().values
    assert queried.tolist() == list(range(len(queried)))
    last, enough = 0, extra
    for rank in sorted(hit + 1 for hit in hits if hit < length):
        if rank <= enough:
            last, enough = rank, int((1 + EXTRA_QUERIES_FRACTION) * rank) + extra
    assert len(queried) == min(enough, length)
    assert int(state.codes.sum()) == sum(hit < last for hit in hits)
