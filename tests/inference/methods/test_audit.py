"""What is drawn to be queried after all."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ossnet.data.labels.scheme import ClassScheme
from ossnet.inference.methods.hierarchical import Audit, audit
from ossnet.inference.methods.voxel_state import VoxelState


class Answers:
    """A volume of given logits that records what it was queried about."""

    def __init__(self, logits: torch.Tensor) -> None:
        self.logits = logits
        self.shape = tuple(logits.shape)
        self.places = torch.empty(0, 3, dtype=torch.long)

    def points(self, voxels: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        self.places = voxels
        return [(voxels, self.logits[voxels.unbind(1)][:, None])]


def evaluated_state(evaluated: np.ndarray, logits: torch.Tensor) -> VoxelState:
    state = VoxelState(Answers(logits), ClassScheme(1), device=logits.device)
    state.evaluated = torch.from_numpy(evaluated.copy())
    return state


@given(st.integers(0, 2**16), st.floats(0, 1), st.integers(1, 400))
def test_draws_as_many_as_there_are_of_those_not_evaluated(seed: int, share: float, points: int) -> None:
    evaluated = np.random.default_rng(seed).random((7, 8, 5)) < share
    state = evaluated_state(evaluated, torch.full(evaluated.shape, -1.0))
    found = audit(state, points, seed)
    drawn = state.volume.places
    assert found == Audit(
        skipped=int((~evaluated).sum()), drawn=min(points, int((~evaluated).sum())), wrong=0
    )
    assert len(drawn) == found.drawn
    assert not evaluated[tuple(drawn.T.numpy())].any()
    assert state.evaluated.numpy()[evaluated].all()
    assert state.evaluated.sum() == evaluated.sum() + found.drawn


def test_every_voxel_is_as_likely_to_be_drawn() -> None:
    evaluated = np.zeros((4, 5, 3), bool)
    evaluated[:2] = True
    counts = np.zeros(evaluated.shape)
    for seed in range(1500):
        state = evaluated_state(evaluated, torch.full(evaluated.shape, -1.0))
        audit(state, 6, seed)
        counts += state.evaluated.numpy() & ~evaluated
    assert counts[evaluated].sum() == 0
    expected = 1500 * 6 / (~evaluated).sum()
    assert np.abs(counts[~evaluated] / expected - 1).max() < 0.25  # five standard deviations


def test_counts_what_was_interpolated_wrongly() -> None:
    logits = torch.full((6, 6, 6), -1.0)
    logits[0] = 1.0
    state = evaluated_state(np.zeros((6, 6, 6), bool), logits)
    assert audit(state, 216) == Audit(skipped=216, drawn=216, wrong=36)
    assert torch.equal(state.codes > 0, logits > 0)


def test_error_bound() -> None:
    """Clopper and Pearson's one-sided bound: with nothing found 1 - 0.05^(1/n)."""
    assert Audit(skipped=10**6, drawn=4096, wrong=0).error_bound == pytest.approx(1 - 0.05 ** (1 / 4096))
    assert Audit(skipped=10**6, drawn=100, wrong=3).error_bound == pytest.approx(0.0757, abs=2e-4)
    assert Audit(skipped=50, drawn=50, wrong=0).error_bound == 0.0
