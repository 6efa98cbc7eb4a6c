"""The peak of memory over a block of code, on whichever device it runs."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ossnet.memory.peak import PeakMemory
from ossnet.memory.storage_tracker import StorageTracker
from ossnet.models.kernels._fake import fake_mode_is_on

GRADIENTS = "gradients"
ACTIVATIONS = "activations"
"""The name of all that was not there before the block on CUDA, whose allocator does not distinguish parts."""
Resident = Iterable[Tensor] | Mapping[str, Iterable[Tensor]]
Modules = Mapping[str, Iterable[nn.Module]]


def track_peak(
    device: torch.device | str,
    *,
    resident: Resident = (),
    modules: Modules | None = None,
    precision: str = "float32",
) -> "CpuPeak | CudaPeak":
    """Measure the peak of a `with` block, in the sense of `ossnet.memory.PROTOCOL`.

    On CUDA the allocator's own counters are read. On the CPU storages are tracked, and under a
    `FakeTensorMode` the figure is the same with nothing allocated. That adds some 25 microseconds to an
    operation, so it is meant for one step, not for all.

    Args:
        resident: what lives already and stays through the block: parameters and buffers, optimizer state,
            batch; a mapping names the parts. Gradients are found by themselves.
        modules: by part, what to charge with all that their forward passes make, the innermost first; on the
            CPU only.
        precision: noted in the result.

    Returns:
        A context manager that gives itself; `allocated`, `reserved` and `memory` are known when its block has
        ended, also when that was by an error.
    """
    place, parts = torch.device(device), _by_part(resident)
    if place.type == "cuda":
        return CudaPeak(place, parts, precision)
    return CpuPeak(parts, modules or {}, precision)


class Peak:
    """The result of `track_peak`."""

    _memory: PeakMemory | None = None

    @property
    def memory(self) -> PeakMemory:
        """All that is known of the peak.

        Raises:
            RuntimeError: read inside the tracked block.
        """
        if self._memory is None:
            msg = "the peak is known when the tracked block has ended"
            raise RuntimeError(msg)
        return self._memory

    @property
    def allocated(self) -> int:
        """Bytes of living tensors at the peak."""
        return self.memory.allocated

    @property
    def reserved(self) -> int:
        """Bytes held by the caching allocator at its peak; on the CPU, which keeps no cache, `allocated`."""
        return self.memory.reserved


class CpuPeak(Peak):
    """Tracks storages, without keeping any tensor alive itself."""

    def __init__(self, parts: Mapping[str, list[Tensor]], modules: Modules, precision: str) -> None:
        self._precision = precision
        self._tracker = StorageTracker()
        self._hooks = list[RemovableHandle]()
        for part, tensors in parts.items():
            self._tracker.count(tensors, part)
            for leaf in (tensor for tensor in tensors if tensor.requires_grad and tensor.is_leaf):
                self._count_gradient(leaf)
                self._hooks.append(leaf.register_post_accumulate_grad_hook(self._count_gradient))
        for part, several in modules.items():
            for module in several:
                self._watch(module, part)

    def __enter__(self) -> Self:
        self._tracker.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tracker.__exit__(kind, error, trace)
        for hook in self._hooks:
            hook.remove()
        self._memory = PeakMemory(
            allocated=self._tracker.peak,
            reserved=self._tracker.peak,
            parts=self._tracker.parts_at_peak(),
            device="cpu (fake)" if fake_mode_is_on() else "cpu",
            precision=self._precision,
            versions={"torch": torch.__version__},
        )
        self._tracker.release()

    def _watch(self, module: nn.Module, part: str) -> None:
        tracker = self._tracker
        self._hooks += [
            module.register_forward_pre_hook(lambda *_: tracker.begin(part)),
            module.register_forward_hook(lambda *_: tracker.end(), always_call=True),
        ]

    def _count_gradient(self, leaf: Tensor) -> None:
        if leaf.grad is not None:
            self._tracker.count([leaf.grad], GRADIENTS)


class CudaPeak(Peak):
    """Reads the caching allocator, which distinguishes only the parts that were there before the block."""

    def __init__(self, device: torch.device, parts: Mapping[str, list[Tensor]], precision: str) -> None:
        self._device = device
        self._precision = precision
        self._sizes = {}
        tracker = StorageTracker("cuda")
        for part, tensors in parts.items():
            before = tracker.current
            tracker.count(tensors)
            self._sizes[part] = tracker.current - before
        tracker.release()

    def __enter__(self) -> Self:
        self._before = torch.cuda.memory_stats(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        allocated = torch.cuda.max_memory_allocated(self._device)
        self._memory = PeakMemory(
            allocated=allocated,
            reserved=torch.cuda.max_memory_reserved(self._device),
            parts={**self._sizes, ACTIVATIONS: allocated - sum(self._sizes.values())},
            device=torch.cuda.get_device_name(self._device),
            precision=self._precision,
            retries=self._rise("num_alloc_retries"),
            out_of_memory=self._rise("num_ooms"),
            versions=_cuda_versions(),
        )

    def _rise(self, counter: str) -> int:
        return torch.cuda.memory_stats(self._device).get(counter, 0) - self._before.get(counter, 0)


def _by_part(resident: Resident) -> dict[str, list[Tensor]]:
    named = resident if isinstance(resident, Mapping) else {"resident": resident}
    return {part: list(tensors) for part, tensors in named.items()}


def _cuda_versions() -> dict[str, str]:
    versions = {"torch": torch.__version__, "cuda": str(torch.version.cuda)}
    versions["cudnn"] = str(torch.backends.cudnn.version())
    with suppress(Exception):  # a container may lack the driver's management library
        import pynvml

        pynvml.nvmlInit()
        versions["driver"] = str(pynvml.nvmlSystemGetDriverVersion())
        pynvml.nvmlShutdown()
    return versions
