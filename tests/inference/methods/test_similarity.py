"""How long to go on looking for what looks alike."""

from collections.abc import Iterator

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ossnet.inference.methods.lattice import VoxelState
from ossnet.inference.methods.similarity import AGAIN, _seek


class Volume:
    """Voxels in a row, known to be in the class or not."""

    uses_patches = True

    def __init__(self, inside: Tensor) -> None:
        self.shape, self._inside = (1, 1, len(inside)), inside

    def points(self, voxels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        yield voxels, torch.where(self._inside[voxels[:, 2]], 1.0, -1.0)[:, None]


@given(
    length=st.integers(1, 400),
    effort=st.integers(1, 60),
    hits=st.sets(st.integers(0, 399), max_size=12),
    seed=st.integers(0, 99),
)
def test_the_search_ends_when_it_was_long_in_vain(
    length: int, effort: int, hits: set[int], seed: int
) -> None:
    """The likeliest are asked, up to `AGAIN` times the rank of the last find and the effort after it."""
    order = torch.randperm(length, generator=torch.Generator().manual_seed(seed))
    ranks = order.argsort()
    inside = torch.isin(ranks, torch.tensor(sorted(hits), dtype=torch.long))
    decided = VoxelState(Volume(inside), overlapping=False, device=torch.device("cpu"))  # type: ignore[arg-type]
    every = torch.ones(1, 1, length, dtype=torch.bool)
    _seek(decided, every, -ranks.float().view(1, 1, -1), 0, effort)
    asked = ranks[decided.known[0, 0]].sort().values
    assert asked.tolist() == list(range(len(asked)))
    last, enough = 0, effort
    for rank in sorted(hit + 1 for hit in hits if hit < length):
        if rank <= enough:
            last, enough = rank, int((1 + AGAIN) * rank) + effort
    assert len(asked) == min(enough, length)
    assert int(decided.codes.sum()) == sum(hit < last for hit in hits)
