"""How a training ended that another try would end the same way."""

import os

from ossnet.distributed.names import MISTAKE, OUT_OF_MEMORY
from ossnet.errors import UserError

MISTAKES = (UserError, FloatingPointError)
_OF_THE_CPU = "DefaultCPUAllocator"  # torch raises a plain RuntimeError where the host has no more


def verdict(error: Exception) -> dict[str, str | float] | None:
    """The end as a result; None for a loss that another try may mend."""
    if isinstance(error, MISTAKES):
        return {MISTAKE: str(error)}
    if _is_out_of_memory(error):
        has = _capacity_gib()
        reason = f"out of memory: the device has {has:.3g} GiB in all: take a smaller network or batch"
        return {MISTAKE: reason, OUT_OF_MEMORY: has}
    return None


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and _OF_THE_CPU in str(error)


def _capacity_gib() -> float:
    """What this process's device has in all."""
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory) / 2**30
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
