"""The device to work on where none is given."""

import torch

from ossnet.errors import UserError


def resolve_device(name: str | torch.device | None = None) -> torch.device:
    """The device of a name; without a name the current CUDA device where there is one, else the CPU.

    Raises:
        UserError: torch has no such device, or there is none of that number here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):  # torch built without CUDA asserts
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UserError(
            f"device {str(name)!r}",
            expected="cpu, or cuda with the number of a device here",
            found=f"{torch.cuda.device_count()} CUDA devices",
        )
    return device
