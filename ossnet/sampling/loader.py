"""The host's part of training data: threads read the cases of the next steps, in order, within a bound.

A thread maps a case, reads its pages and, where the network is on a GPU, copies them to pinned memory, from
which they cross beside the running step.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from threading import Lock

import torch
from torch import Tensor

from ossnet.data.store.case_file import StoredCase
from ossnet.sampling.sampler import SampleKey
from ossnet.sampling.volume import Volume

AHEAD_BYTES = 4 << 30
"""Bytes of volumes that may be read ahead; the next step's are read however many they are."""
AHEAD_STEPS = 4
"""Steps whose volumes are read ahead, at most."""
MAX_THREADS = 8
_PAGE = 4096
_ROUND = 1 << 20  # buffers of sizes that differ little can be used for one another

ReadCase = Callable[[str], StoredCase]
"""Opens a case by its id, or another one that takes its place."""


def loader_threads(requested: int | None) -> int:
    """The threads that read: as requested, else one for each CPU of this worker but one, 8 at most."""
    return requested or min(max(torch.get_num_threads() - 1, 1), MAX_THREADS)


class StagingPool:
    """Host memory that volumes are sent from, used again and again: new pages cost more than the copy.

    Args:
        pinned: memory that a GPU reads by itself, beside a running step.
    """

    def __init__(self, *, pinned: bool) -> None:
        self._pinned = pinned
        self._free: list[Tensor] = []
        self._lock = Lock()

    def stage(self, volume: Volume) -> Volume:
        """A copy of the volume; its memory is used again when the copy and all made from it are gone."""
        buffer = self._take(volume.nbytes)
        middle = volume.voxels.nbytes
        voxels = buffer[:middle].view(volume.voxels.dtype).view(volume.voxels.shape)
        label = buffer[middle : volume.nbytes].view(volume.label.shape)
        voxels.copy_(volume.voxels)
        label.copy_(volume.label)
        return replace(volume, voxels=voxels, label=label, memory=_Loan(self._free, buffer))

    def _take(self, size: int) -> Tensor:
        with self._lock:
            fitting = [index for index, buffer in enumerate(self._free) if len(buffer) >= size]
            if fitting:
                return self._free.pop(min(fitting, key=lambda index: len(self._free[index])))
            self._free.clear()  # all are too small: larger ones take their place
        return torch.empty(-(-size // _ROUND) * _ROUND, dtype=torch.uint8, pin_memory=self._pinned)


class _Loan:
    """Gives a buffer back when nobody holds it any more."""

    def __init__(self, free: list[Tensor], buffer: Tensor) -> None:
        self._free, self._buffer = free, buffer

    def __del__(self) -> None:
        self._free.append(self._buffer)


def load_volumes(
    steps: Iterable[list[SampleKey]],
    read: ReadCase,
    *,
    threads: int = 1,
    staging: StagingPool | None = None,
    kept: Callable[[str], Volume | None] = lambda _: None,
    ahead_bytes: int = AHEAD_BYTES,
) -> Generator[list[Volume]]:
    """Iterate over the volumes of each step, in the order of the steps whatever thread is done first.

    A case of the step before is not read again. An error of reading is raised at its step.

    Args:
        read: opens a case; called by the threads.
        staging: where volumes are copied to, to be sent from; without it they are views of the cases' memory.
        kept: the volume of a case that is on the device already and need not be read.
        ahead_bytes: as `AHEAD_BYTES`.
    """
    waiting, limit = deque[list[tuple[SampleKey, Future[Volume]]]](), 1
    last: dict[str, Future[Volume]] = {}
    with ThreadPoolExecutor(threads, "loader") as pool:
        try:
            for step in steps:
                last = {
                    key.case: last.get(key.case)
                    or _on_device(kept(key.case))
                    or pool.submit(_load, read, key, staging)
                    for key in step
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


def _on_device(volume: Volume | None) -> Future[Volume] | None:
    if volume is None:
        return None
    future = Future[Volume]()
    future.set_result(volume)
    return future


def _load(read: ReadCase, key: SampleKey, staging: StagingPool | None) -> Volume:
    stored = read(key.case)
    volume = Volume.of(stored, _own_key(key, stored.id))
    if staging is not None:
        return staging.stage(volume)
    for values in (volume.voxels, volume.label):
        values.view(-1)[
            :: max(_PAGE // values.itemsize, 1)
        ].sum()  # every page, so that the sampler does not wait
    return volume


def _results(step: list[tuple[SampleKey, Future[Volume]]]) -> list[Volume]:
    loaded = [(key, future.result()) for key, future in step]
    return [replace(volume, key=_own_key(key, volume.key.case)) for key, volume in loaded]


def _own_key(key: SampleKey, case: str) -> SampleKey:
    """The key of a draw from the case that was opened for it."""
    return key if case == key.case else SampleKey(key.epoch, key.step, case, instead_of=key.case)


def _steps_ahead(volumes: list[Volume], ahead_bytes: int) -> int:
    return max(1, min(AHEAD_STEPS, ahead_bytes // max(sum(volume.nbytes for volume in volumes), 1)))
