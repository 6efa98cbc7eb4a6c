"""The order of training: whole epochs, disjoint shares, the same global batches for any number of workers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.errors import UserError
from ossnet.sampling.order import check_batch, training_order


@given(
    cases=st.integers(4, 30), local=st.integers(1, 2), world=st.integers(1, 2), seed=st.integers(0, 2**32 - 1)
)
def test_shares_are_disjoint_and_add_up_to_the_single_worker_batch(
    cases: int, local: int, world: int, seed: int
) -> None:
    names = [f"case{index}" for index in range(cases)]
    batch_size = local * world
    alone = list(training_order(names, epochs=2, batch_size=batch_size, seed=seed))
    shares = [
        list(training_order(names, epochs=2, batch_size=batch_size, seed=seed, rank=rank, world=world))
        for rank in range(world)
    ]
    for whole, *parts in zip(alone, *shares, strict=True):
        joined = [reference for part in parts for reference in part]
        assert len({reference.case for reference in joined}) == batch_size
        assert set(joined) == set(whole)


def test_an_epoch_sees_every_case_once_and_epochs_differ() -> None:
    names = [f"case{index}" for index in range(12)]
    order = list(training_order(names, epochs=2, batch_size=4, seed=3))
    epochs = [[r.case for step in order for r in step if r.epoch == epoch] for epoch in (0, 1)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(names)
    assert epochs[0] != epochs[1]
    assert [step[0].step for step in order] == list(range(6))


@pytest.mark.parametrize(("cases", "batch", "world"), [(3, 4, 1), (8, 3, 2)])
def test_a_batch_that_does_not_fit_is_refused(cases: int, batch: int, world: int) -> None:
    with pytest.raises(UserError, match="batch_size"):
        check_batch(cases, batch, world)
