"""Which precision matrix products run in."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """bfloat16 where it is asked for; parameters and losses stay in float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """The autocast precision where autocast is on for the tensor's device, else the tensor's own."""
    device = tensor.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensor.dtype
