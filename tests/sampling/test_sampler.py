"""The order of training: whole epochs, disjoint shares, the same global batches for any number of workers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.errors import UserError
from ossnet.sampling.sampler import (
    SampleKey,
    batch_order,
    check_batch,
    first_step,
    largest_part,
    parts_of_share,
    split_batches,
    volumes_of,
)


@given(
    cases=st.integers(4, 30),
    local=st.integers(1, 2),
    world_size=st.integers(1, 2),
    seed=st.integers(0, 2**32 - 1),
)
def test_shares_are_disjoint_and_add_up_to_the_single_worker_batch(
    cases: int, local: int, world_size: int, seed: int
) -> None:
    names = [f"case{index}" for index in range(cases)]
    batch_size = local * world_size
    alone = list(batch_order(names, epochs=2, batch_size=batch_size, seed=seed))
    shares = [
        list(batch_order(names, epochs=2, batch_size=batch_size, seed=seed, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    for whole, *parts in zip(alone, *shares, strict=True):
        joined = [reference for part in parts for reference in part]
        assert len({(reference.case, reference.epoch) for reference in joined}) == batch_size
        assert set(joined) == set(whole)
    for epoch in range(2):
        seen = [reference.case for step in alone for reference in step if reference.epoch == epoch]
        assert sorted(seen) == sorted(names)


@given(cases=st.integers(4, 30), batch_size=st.integers(1, 4), steps_per_batch=st.integers(1, 3))
def test_epochs_begin_where_the_cases_before_are_drawn(
    cases: int, batch_size: int, steps_per_batch: int
) -> None:
    names = [f"case{index}" for index in range(cases)]
    order = list(batch_order(names, epochs=3, batch_size=batch_size, seed=0, steps_per_batch=steps_per_batch))
    assert [step[0].step for step in order] == list(range(len(order)))
    assert len(order) == first_step(3, cases=cases, batch_size=batch_size, steps_per_batch=steps_per_batch)
    for epoch in (1, 2):
        start = first_step(epoch, cases=cases, batch_size=batch_size, steps_per_batch=steps_per_batch)
        before = {(reference.epoch, reference.case) for step in order[:start] for reference in step}
        assert before >= {(past, name) for past in range(epoch) for name in names}
        shorter = {
            (reference.epoch, reference.case)
            for step in order[: start - steps_per_batch]
            for reference in step
        }
        assert not shorter >= {(past, name) for past in range(epoch) for name in names}
    if cases >= 2 * batch_size:
        assert all(len({reference.case for reference in step}) == batch_size for step in order)
    visits = [order[start : start + steps_per_batch] for start in range(0, len(order), steps_per_batch)]
    assert all([r.case for r in step] == [r.case for r in visit[0]] for visit in visits for step in visit)


@given(
    sizes=st.lists(st.integers(1, 1000), min_size=12, max_size=30),
    workers=st.lists(st.sampled_from([1, 2, 3, 4, 6, 12]), min_size=1, max_size=6),
    steps_per_batch=st.integers(1, 2),
    seed=st.integers(0, 2**32 - 1),
)
def test_workers_that_come_and_go_change_who_reads_and_not_the_order(
    sizes: list[int], workers: list[int], steps_per_batch: int, seed: int
) -> None:
    """Each step is shared by another number of workers, each of which knows no more than its rank."""
    names = [f"case{index}" for index in range(len(sizes))]
    by_name = dict(zip(names, sizes, strict=True))

    def order(rank: int, world_size: int) -> list[list[SampleKey]]:
        return list(
            batch_order(
                names,
                epochs=2,
                batch_size=12,
                seed=seed,
                steps_per_batch=steps_per_batch,
                sizes=by_name,
                rank=rank,
                world_size=world_size,
            )
        )

    alone = order(0, 1)
    shares = {count: [order(rank, count) for rank in range(count)] for count in set(workers)}
    assert all(order(rank, count) == part for count in shares for rank, part in enumerate(shares[count]))
    for step, batch in enumerate(alone):
        count = workers[step % len(workers)]
        parts = [part[step] for part in shares[count]]
        assert sorted(key for part in parts for key in part) == sorted(batch)
        assert {len(part) for part in parts} == {12 // count}
        loads = [sum(by_name[key.case] for key in part) for part in parts]
        assert max(loads) - min(loads) <= max(sizes) - min(sizes)  # dealt in the order of size


def test_ranks_get_about_as_many_bytes() -> None:
    sizes = {f"case{index}": 2**index for index in range(12)}
    totals = [
        sum(
            sizes[reference.case]
            for step in batch_order(
                list(sizes), epochs=40, batch_size=2, seed=1, sizes=sizes, rank=rank, world_size=2
            )
            for reference in step
        )
        for rank in (0, 1)
    ]
    assert sum(totals) == 40 * sum(sizes.values())
    assert max(totals) / min(totals) < 1.2


def test_an_epoch_sees_every_case_once_and_epochs_differ() -> None:
    names = [f"case{index}" for index in range(12)]
    order = list(batch_order(names, epochs=2, batch_size=4, seed=3))
    epochs = [[r.case for step in order for r in step if r.epoch == epoch] for epoch in (0, 1)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(names)
    assert epochs[0] != epochs[1]
    assert [step[0].step for step in order] == list(range(6))


@given(
    batch_size=st.integers(1, 12),
    world_size=st.integers(1, 12),
    accumulation_steps=st.integers(1, 12),
)
def test_shares_that_do_not_divide_differ_by_one_and_pass_in_as_many_parts(
    batch_size: int, world_size: int, accumulation_steps: int
) -> None:
    world_size = min(world_size, batch_size)
    share = {"batch_size": batch_size, "world_size": world_size}
    parts = parts_of_share(accumulation_steps, **share)
    sizes = list[list[int]]()
    for rank in range(world_size):
        order = batch_order([f"case{n}" for n in range(batch_size)], epochs=1, seed=0, rank=rank, **share)
        sizes.append([len(part) for part in split_batches(order, parts)])
        assert sum(sizes[-1]) == volumes_of(rank, **share)
    assert {len(each) for each in sizes} == {parts}
    totals = [sum(each) for each in sizes]
    assert sum(totals) == batch_size
    assert max(totals) - min(totals) <= 1
    assert max(map(max, sizes)) == largest_part(accumulation_steps, **share)


@pytest.mark.parametrize(("cases", "batch", "world_size"), [(3, 4, 1), (8, 2, 3)])
def test_a_batch_that_does_not_fit_is_refused(cases: int, batch: int, world_size: int) -> None:
    with pytest.raises(UserError, match="batch_size"):
        check_batch(cases, batch, world_size)
