"""The host's part of training data: threads read the cases of the next steps, in order, within a bound.

A thread maps a case, reads its pages and, where the network is on a GPU, copies them to pinned memory, from
where they cross beside the running step.
"""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from ossnet.data.store.case_file import StoredCase
from ossnet.sampling.sampler import SampleKey
from ossnet.sampling.volume import Volume

AHEAD_BYTES = 4 << 30
"""Bytes of volumes that may be read ahead; the next step's are read however many they are."""
AHEAD_STEPS = 4
"""Steps whose volumes are read ahead, at most."""
MAX_THREADS = 8
_PAGE = 4096

ReadCase = Callable[[str], StoredCase]
"""Opens a case by its id."""


def loader_threads(requested: int | None) -> int:
    """The threads that read: as requested, else one a CPU that this process may use beside its own, 8 at most."""
    return requested or min(max(len(os.sched_getaffinity(0)) - 1, 1), MAX_THREADS)


def load_volumes(
    steps: Iterable[list[SampleKey]],
    read: ReadCase,
    *,
    threads: int = 1,
    pinned: bool = False,
    ahead_bytes: int = AHEAD_BYTES,
) -> Generator[list[Volume]]:
    """Iterate over the volumes of each step, in the order of the steps whatever thread is done first.

    A case of the step before is not read again. An error of reading is raised at its step.

    Args:
        read: opens a case; called by the threads.
        pinned: copy the volumes to pinned memory; by default they are views of the case's memory.
        ahead_bytes: as `AHEAD_BYTES`.
    """
    waiting, limit = deque[list[tuple[SampleKey, Future[Volume]]]](), 1
    last: dict[str, Future[Volume]] = {}
    with ThreadPoolExecutor(threads, "loader") as pool:
        try:
            for step in steps:
                last = {
                    key.case: last.get(key.case) or pool.submit(_load, read, key, pinned) for key in step
                }
                waiting.append([(key, last[key.case]) for key in step])
                while len(waiting) > limit:
                    volumes = _results(waiting.popleft())
                    limit = _steps_ahead(volumes, ahead_bytes)
                    yield volumes
            while waiting:
                yield _results(waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _load(read: ReadCase, key: SampleKey, pinned: bool) -> Volume:
    volume = Volume.of(read(key.case), key)
    if pinned:
        return volume.staged(pinned=True)
    for values in (volume.voxels, volume.label):
        values.view(-1)[:: max(_PAGE // values.itemsize, 1)].sum()  # every page, so that the sampler does not wait
    return volume


def _results(step: list[tuple[SampleKey, Future[Volume]]]) -> list[Volume]:
    return [replace(future.result(), key=key) for key, future in step]


def _steps_ahead(volumes: list[Volume], ahead_bytes: int) -> int:
    return max(1, min(AHEAD_STEPS, ahead_bytes // max(sum(volume.nbytes for volume in volumes), 1)))
