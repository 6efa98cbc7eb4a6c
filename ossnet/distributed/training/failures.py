"""How a training ended that another try would end the same way."""

import os

from ossnet.errors import OutOfMemory, UserError
from ossnet.metric_names import MISTAKE, OUT_OF_MEMORY


def permanent_failure(error: Exception) -> dict[str, str | float] | None:
    """The end as a result; None for a loss that another try may mend."""
    if isinstance(error, OutOfMemory):
        return {MISTAKE: str(error), OUT_OF_MEMORY: _capacity_gib()}
    return {MISTAKE: str(error)} if isinstance(error, UserError | FloatingPointError) else None


def _capacity_gib() -> float:
    """What this process's device has in all."""
    import torch

    if torch.cuda.is_available():
        return float(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory) / 2**30
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
