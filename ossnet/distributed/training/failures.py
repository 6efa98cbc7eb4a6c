"""Failures that another try would repeat."""

import os

from ossnet.errors import OutOfMemory, UserError
from ossnet.metric_names import ERROR, OUT_OF_MEMORY


def permanent_failure(error: Exception) -> dict[str, str | float] | None:
    """The last result of a training that failed for good; None for a loss that another try may fix."""
    if isinstance(error, OutOfMemory):
        return {ERROR: str(error), OUT_OF_MEMORY: _capacity_gib()}
    return {ERROR: str(error)} if isinstance(error, UserError | FloatingPointError) else None


def _capacity_gib() -> float:
    """The whole memory of this process's device in GiB."""
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory) / 2**30
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
