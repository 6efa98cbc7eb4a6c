"""Reading ahead: in order, whatever thread is done first; within a bound; errors in their place."""

import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ossnet.data import Store
from ossnet.data.store.case_file import StoredCase
from ossnet.errors import UserError
from ossnet.sampling.loader import StagingPool, load_volumes, loader_threads
from ossnet.sampling.sampler import SampleKey
from ossnet.sampling.volume import Volume, VolumeCache


@pytest.fixture(scope="module")
def store(phantom_store: Path) -> Store:
    return Store.open(phantom_store)


@given(
    order=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=3), max_size=12),
    threads=st.integers(1, 4),
    ahead=st.sampled_from([0, 10**6, 10**9]),
    staged=st.booleans(),
)
@settings(deadline=None, max_examples=30)
def test_every_step_has_its_volumes_in_order(
    store: Store, order: list[list[int]], threads: int, ahead: int, staged: bool
) -> None:
    cases = store.split("training")
    steps = [[SampleKey(0, step, cases[index]) for index in indices] for step, indices in enumerate(order)]

    def read(case: str) -> StoredCase:
        time.sleep(0.001 * (cases.index(case) % 2))  # the later one is done first
        return store.case(case)

    staging = StagingPool(pinned=False) if staged else None
    found = load_volumes(steps, read, threads=threads, staging=staging, ahead_bytes=ahead)
    for step, volumes in zip(steps, found, strict=True):
        assert [volume.key for volume in volumes] == step
        for volume in volumes:
            stored = store.case(volume.key.case)
            assert np.array_equal(volume.voxels.numpy(), stored.voxels)
            assert np.array_equal(volume.label.numpy(), stored.label)


def test_a_case_of_the_step_before_is_not_read_again(store: Store) -> None:
    cases, read = store.split("training"), Counter[str]()

    def counted(case: str) -> StoredCase:
        read[case] += 1
        return store.case(case)

    steps = [[SampleKey(0, step, cases[step // 4])] for step in range(12)]
    assert [volumes[0].key.step for volumes in load_volumes(steps, counted)] == list(range(12))
    assert set(read.values()) == {1}
    assert len(read) == 3


@pytest.mark.parametrize(("volumes_ahead", "most"), [(0, 3), (2, 4), (100, 6)])
def test_no_more_is_read_ahead_than_the_bound(store: Store, volumes_ahead: int, most: int) -> None:
    case = store.case(store.split("training")[0])
    size, begun = Volume.of(case, SampleKey(0, 0, case.id)).nbytes, list[str]()

    def read(_: str) -> StoredCase:
        begun.append("")
        return case

    steps = ([SampleKey(0, step, str(step))] for step in range(40))
    for taken, _ in enumerate(load_volumes(steps, read, threads=4, ahead_bytes=volumes_ahead * size)):
        time.sleep(0.005)
        assert len(begun) <= taken + most


def test_an_error_comes_at_its_step_and_leaves_no_thread(store: Store) -> None:
    def read(case: str) -> StoredCase:
        if case == "gone":
            raise UserError(case, expected="a case", found="none")
        return store.case(case)

    cases = [*store.split("training")[:2], "gone", store.split("training")[0]]
    found = load_volumes([[SampleKey(0, 0, case)] for case in cases], read, threads=3)
    assert [next(found)[0].key.case for _ in range(2)] == cases[:2]
    with pytest.raises(UserError, match="gone: expected a case"):
        next(found)
    assert not any(thread.name.startswith("loader") for thread in threading.enumerate())


def test_staging_memory_is_used_again(store: Store) -> None:
    pool = StagingPool(pinned=False)
    case = store.case(store.split("training")[0])
    volume = Volume.of(case, SampleKey(0, 0, case.id))
    addresses = {pool.stage(volume).voxels.data_ptr() for _ in range(5)}
    assert len(addresses) == 1
    first, second = pool.stage(volume), pool.stage(volume)
    assert first.voxels.data_ptr() != second.voxels.data_ptr()
    assert torch.equal(first.voxels, second.voxels)


def test_threads_are_as_requested_or_as_the_machine_has() -> None:
    assert loader_threads(3) == 3
    assert 1 <= loader_threads(None) <= 8


def test_volumes_that_stay_on_the_device_are_not_read_again(store: Store) -> None:
    cases, read = store.split("training")[:3], list[str]()

    def counted(case: str) -> StoredCase:
        read.append(case)
        return store.case(case)

    size = Volume.of(store.case(cases[0]), SampleKey(0, 0, cases[0])).nbytes
    cache = VolumeCache(2 * size, torch.device("cpu"))
    steps = [[SampleKey(epoch, 0, case)] for epoch in range(3) for case in cases]
    staging = StagingPool(pinned=False)
    for (volume,) in load_volumes(steps, counted, staging=staging, kept=cache.get, ahead_bytes=0):
        sent = cache.send(volume)
        assert sent.key == volume.key
        assert np.array_equal(sent.voxels.numpy(), store.case(volume.key.case).voxels)
    assert read == [*cases, cases[2], cases[2]]
    assert cache.nbytes == 2 * size
