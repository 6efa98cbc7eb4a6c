"""What is drawn to be asked after all."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ossnet.inference.methods.audit import Audit, audit
from ossnet.inference.methods.lattice import VoxelState


class Answers:
    """A volume of known logits that notes what it was asked."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits
        self.shape = tuple(logits.shape)
        self.places = torch.empty(0, 3, dtype=torch.long)

    def points(self, voxels: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        self.places = voxels
        return [(voxels, self.logits[voxels.unbind(1)][:, None])]


def decided(known: np.ndarray, logits: torch.Tensor) -> VoxelState:
    state = VoxelState(Answers(logits), overlapping=False, device=logits.device)
    state.known = torch.from_numpy(known.copy())
    return state


@given(st.integers(0, 2**16), st.floats(0, 1), st.integers(1, 400))
def test_draws_as_many_as_there_are_of_those_not_known(seed: int, share: float, points: int) -> None:
    known = np.random.default_rng(seed).random((7, 8, 5)) < share
    state = decided(known, torch.full(known.shape, -1.0))
    found = audit(state, points, seed)
    drawn = state.volume.places
    assert found == Audit(skipped=int((~known).sum()), drawn=min(points, int((~known).sum())), wrong=0)
    assert len(drawn) == found.drawn
    assert not known[tuple(drawn.T.numpy())].any()
    assert state.known.numpy()[known].all()
    assert state.known.sum() == known.sum() + found.drawn


def test_every_voxel_is_as_likely_to_be_drawn() -> None:
    known = np.zeros((4, 5, 3), bool)
    known[:2] = True
    counts = np.zeros(known.shape)
    for seed in range(1500):
        state = decided(known, torch.full(known.shape, -1.0))
        audit(state, 6, seed)
        counts += state.known.numpy() & ~known
    assert counts[known].sum() == 0
    expected = 1500 * 6 / (~known).sum()
    assert np.abs(counts[~known] / expected - 1).max() < 0.25  # five standard deviations


def test_counts_what_was_filled_in_wrongly() -> None:
    logits = torch.full((6, 6, 6), -1.0)
    logits[0] = 1.0
    state = decided(np.zeros((6, 6, 6), bool), logits)
    assert audit(state, 216) == Audit(skipped=216, drawn=216, wrong=36)
    assert torch.equal(state.codes > 0, logits > 0)


def test_bound() -> None:
    """Clopper and Pearson's one-sided bound: with nothing found 1 - 0.05^(1/n)."""
    assert Audit(skipped=10**6, drawn=4096, wrong=0).bound == pytest.approx(1 - 0.05 ** (1 / 4096))
    assert Audit(skipped=10**6, drawn=100, wrong=3).bound == pytest.approx(0.0757, abs=2e-4)
    assert Audit(skipped=50, drawn=50, wrong=0).bound == 0.0
