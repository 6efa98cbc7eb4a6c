"""The host's part of the input, and how long a device of a given step time would wait for it.

The host reads volumes and copies them to memory that they are sent from; a device draws points and patches.
Here the CPU stands in for the device: the network is replaced by a sleep, and nothing is drawn.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import torch

from ossnet.data import Store
from ossnet.data.store.case_file import StoredCase
from ossnet.sampling.loader import AHEAD_STEPS, StagingPool, load_volumes
from ossnet.sampling.prefetch import prefetch
from ossnet.sampling.sampler import SampleKey
from ossnet.sampling.volume import Volume, VolumeCache

_WARM_UP = 4 + AHEAD_STEPS  # batches: all of them once, and those that were begun before they were kept


@dataclass(frozen=True)
class HostRate:
    """The host's part for one number of loader threads."""

    threads: int
    volume_s: float
    """Wall time of a volume, with all threads."""
    volume_cpu_s: float
    """CPU time of a volume."""
    volumes_per_s: float


@dataclass(frozen=True)
class DeviceWait:
    """How much of the time a device waits for data."""

    step_s: float
    """Seconds of a step, of all it does with its volumes."""
    steps_per_batch: int
    """Successive steps on the same volumes, each with points of its own."""
    on_device: bool
    """Whether volumes stay on the device from epoch to epoch."""
    loader_threads: int
    batch_size: int
    wait_fraction: float
    """`time/data_wait_fraction` of such a training."""


def host_rate(store: Store, cases: Sequence[str], *, volumes: int, threads: int) -> HostRate:
    """Measure how fast threads read volumes and copy them to be sent."""
    loaded = load_volumes(
        _steps(1, volumes + _WARM_UP, 1),
        lambda number: _numbered(store, cases, number),
        threads=threads,
        staging=StagingPool(pinned=False),
    )
    with closing(loaded):
        for _ in range(_WARM_UP):
            next(loaded)
        began = time.perf_counter(), time.process_time()
        for _ in loaded:
            pass
        wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    return HostRate(threads, wall / volumes, cpu / volumes, volumes / wall)


def device_wait(
    store: Store,
    cases: Sequence[str],
    *,
    step_s: float,
    batch_size: int,
    threads: int,
    steps: int,
    steps_per_batch: int = 1,
    on_device: bool = False,
) -> DeviceWait:
    """Train with a network that sleeps, and measure how long it waits for its volumes.

    The cases stand for three batches of them, which are read anew for every batch, except where volumes stay
    on the device.
    """
    device = torch.device("cpu")
    cache = VolumeCache((1 << 62) if on_device else 0, device)
    warm_up = _WARM_UP * steps_per_batch
    loaded = load_volumes(
        _steps(batch_size, warm_up + steps, steps_per_batch),
        lambda number: _numbered(store, cases, number),
        threads=threads,
        staging=StagingPool(pinned=False),
        kept=cache.get,
    )

    def sent() -> Iterator[list[Volume]]:
        with closing(loaded):
            for volumes in loaded:
                yield [cache.send(volume) for volume in volumes]

    waited, began = 0.0, time.perf_counter()
    with closing(prefetch(sent())) as batches:
        for step in range(warm_up + steps):
            if step == warm_up:
                waited, began = 0.0, time.perf_counter()
            asked = time.perf_counter()
            next(batches)
            waited += time.perf_counter() - asked
            time.sleep(step_s)
        took = time.perf_counter() - began
    return DeviceWait(step_s, steps_per_batch, on_device, threads, batch_size, waited / took)


def _steps(batch_size: int, steps: int, steps_per_batch: int) -> Iterator[list[SampleKey]]:
    """Batches of numbered cases in turn; the third one after a batch has the same cases again."""
    for step in range(steps):
        first = step // steps_per_batch % 3 * batch_size
        yield [SampleKey(step, step, str(first + index)) for index in range(batch_size)]


def _numbered(store: Store, cases: Sequence[str], number: str) -> StoredCase:
    """One of the cases under a number of its own: there are more numbers than cases."""
    stored = store.case(cases[int(number) % len(cases)])
    return replace(stored, header=replace(stored.header, id=number))
