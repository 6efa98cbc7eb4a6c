"""How long a device would wait for data: long where data is slow, hardly where it is kept or reused."""

import time
from pathlib import Path
from typing import Any

import pytest

from ossnet.benchmarks.input.waiting import DeviceWait, device_wait
from ossnet.data import Store
from ossnet.data.store.case_file import StoredCase


class SlowStore(Store):
    """A store whose cases take 20 ms to read."""

    def case(self, case_id: str) -> StoredCase:
        time.sleep(0.02)
        return super().case(case_id)


@pytest.fixture(scope="module")
def store(phantom_store: Path) -> Store:
    opened = Store.open(phantom_store)
    return SlowStore(opened.root, opened.manifest)


def wait(store: Store, step_s: float, **changes: Any) -> DeviceWait:
    settings: dict[str, Any] = {"step_s": step_s, "batch_size": 2, "threads": 1, "steps": 12, **changes}
    return device_wait(store, store.split("training")[:2], **settings)


def test_a_device_waits_for_what_reading_takes_longer_than_its_step(store: Store) -> None:
    """40 ms of reading a batch: a step of 10 ms waits three quarters of the time, one of 200 ms hardly."""
    short, long = wait(store, 0.01), wait(store, 0.2)
    assert 0.6 < short.wait_fraction < 0.95
    assert long.wait_fraction < 0.3


def test_more_steps_on_a_batch_and_volumes_that_stay_let_it_wait_less(store: Store) -> None:
    anew = wait(store, 0.02).wait_fraction
    reused = wait(store, 0.02, steps_per_batch=6, steps=18).wait_fraction
    kept = wait(store, 0.02, on_device=True).wait_fraction
    assert reused < anew / 2
    assert kept < anew / 2
