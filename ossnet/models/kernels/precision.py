"""The precision of matrix products and of the arithmetic between them."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """A context in which matrix products run in `precision`, "float32" or "bf16".

    Parameters and losses stay in float32.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """The precision of matrix products: autocast's where that is on for the tensor's device, else its own."""
    device = tensor.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensor.dtype


def working_dtype(tensor: Tensor) -> torch.dtype:
    """The precision of the arithmetic between products: float32, or float64 for float64 data."""
    return torch.promote_types(tensor.dtype, torch.float32)
