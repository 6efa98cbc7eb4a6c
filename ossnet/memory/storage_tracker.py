"""Living tensor storage on the CPU, real or fake: what `torch.cuda.max_memory_allocated` counts on a GPU."""

import weakref
from collections.abc import Iterable
from functools import partial

import torch
from torch import Tensor

from ossnet.models.kernels._fake import WatchingMode
from ossnet.models.kernels._torch import storage_key

BLOCK = 512
"""Bytes to which the CUDA caching allocator rounds up; counting the same way makes figures comparable."""

WORKSPACE = "workspace"
"""The part of what nothing else claims: what the loss, the backward pass and the optimizer make."""


class StorageTracker(WatchingMode):
    """Counts the bytes of every storage that operations under it use or make, for as long as it lives.

    Storages are identified by address, so views count once, and leave the count when their last tensor (or
    autograd node) lets go, wherever that is. Backward passes are covered: on the CPU autograd runs in the
    calling thread, under the same mode. Memory that a kernel takes and returns within one operation is not
    seen. Under a `FakeTensorMode` enter this mode inside it.
    """

    def __init__(self, kind: str = "cpu") -> None:
        super().__init__()
        self.kind = kind
        """Type of the device whose tensors count."""
        self.current = 0
        self.peak = 0
        self._living: dict[int, _LiveStorage] = {}
        self._events: list[tuple[int, int]] = []
        self._events_at_peak = 0
        self._part: dict[int, str] = {}
        self._running: list[str] = []
        self._made = 0

    def see(self, tensors: Iterable[Tensor]) -> None:
        """Count what an operation took and made.

        What it took, too: a tensor made outside dispatch (from NumPy, by a C++ hook) is first seen as an
        argument.
        """
        self.count(tensors)

    def count(self, tensors: Iterable[Tensor], part: str | None = None) -> None:
        """Count tensors that live already; `part` names what they are for."""
        for tensor in tensors:
            if tensor.device.type != self.kind or tensor.layout != torch.strided:
                continue
            storage = tensor.untyped_storage()
            serial = self._see(storage)
            if part is not None:
                self._part.setdefault(serial, part)

    def begin(self, part: str) -> None:
        """Count what is made from now on for this part, until `end` or a part within it begins."""
        self._running.append(part)

    def end(self) -> None:
        """The part that began last has ended."""
        self._running.pop()

    def parts_at_peak(self) -> dict[str, int]:
        """Bytes by part at the peak; they add up to `peak`."""
        living: dict[int, int] = {}
        for serial, change in self._events[: self._events_at_peak]:
            living[serial] = living.get(serial, 0) + change
        parts: dict[str, int] = {}
        for serial, size in living.items():
            name = self._part.get(serial, WORKSPACE)
            parts[name] = parts.get(name, 0) + size
        return {name: size for name, size in parts.items() if size}

    def release(self) -> None:
        """Stop following storages that outlive the tracker."""
        self._living.clear()

    def _see(self, storage: torch.UntypedStorage) -> int:
        key = storage_key(storage)
        size = -(-storage.nbytes() // BLOCK) * BLOCK
        living = self._living.get(key)
        if living is None:
            self._made += 1
            watch = weakref.ref(storage, partial(self._forget, key))
            living = self._living[key] = _LiveStorage(self._made, 0, watch)
            if self._running:
                self._part[self._made] = self._running[-1]
        if size != living.size:
            self._change(living.serial, size - living.size)
            living.size = size
        return living.serial

    def _forget(self, key: int, _: object) -> None:
        gone = self._living.pop(key, None)
        if gone is not None:
            self._change(gone.serial, -gone.size)

    def _change(self, serial: int, change: int) -> None:
        self._events.append((serial, change))
        self.current += change
        if self.current > self.peak:
            self.peak = self.current
            self._events_at_peak = len(self._events)


class _LiveStorage:
    """A storage that has not been freed yet."""

    __slots__ = ("serial", "size", "watch")

    def __init__(self, serial: int, size: int, watch: weakref.ref[torch.UntypedStorage]) -> None:
        self.serial = serial
        self.size = size
        self.watch = watch
