"""A peak of memory, with all that is needed to compare it with another one."""

from collections.abc import Mapping
from dataclasses import dataclass, field

GIB = 2**30

PROTOCOL = (
    "bytes of tensor storage living at the peak of one optimizer step after warm-up, in blocks of 512; "
    "parameters, gradients, optimizer state, batch and next batch included; the largest over ranks"
)


@dataclass(frozen=True)
class PeakMemory:
    """The peak of one step (see `PROTOCOL`)."""

    allocated: int
    """Bytes of living tensors at the peak."""
    reserved: int
    """Bytes the caching allocator held at its own peak; on the CPU, which keeps no cache, `allocated`."""
    parts: Mapping[str, int] = field(default_factory=dict)
    """Bytes of `allocated` by part; they add up to it.

    On the CPU and predicted: `parameters`, `gradients`, `optimizer_state`, `batch`; `next_batch`, what is
    made beside the step; `device_cache`, room for volumes that stay; `encoder`, `patches` and `decoder`, what
    their forward passes made and keep; `workspace`, what the loss, the backward pass and the optimizer made.
    CUDA's allocator does not distinguish those four: together they are `activations`.
    """
    device: str = "cpu"
    """`cpu`, `cpu (fake)` or the name of the GPU."""
    precision: str = "float32"
    retries: int = 0
    """Times the CUDA allocator emptied its cache and tried again."""
    out_of_memory: int = 0
    """Times the CUDA allocator gave up."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of torch, and on a GPU of cuda, cudnn and the driver."""
    protocol: str = PROTOCOL

    @property
    def allocated_gib(self) -> float:
        return self.allocated / GIB

    @property
    def reserved_gib(self) -> float:
        return self.reserved / GIB
