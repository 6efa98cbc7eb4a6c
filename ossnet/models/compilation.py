"""Having torch's compiler make the arithmetic between matrix products."""

import torch
from torch import nn

from ossnet.models.kernels.compiled import CompiledKernels
from ossnet.models.kernels.normalization import BatchStatistics
from ossnet.models.kernels.pade import Pade


def compile_arithmetic(network: nn.Module) -> None:
    """Let compiled loops normalize and activate from now on, in place; a network without such units stays.

    Values and gradients are the same up to rounding. Loops are compiled as they are first needed, some
    seconds each, and kept on disk by torch for later processes.

    Raises:
        RuntimeError: the compiler does not work here; says what it lacks.
    """
    units = [module for module in network.modules() if isinstance(module, Pade | BatchStatistics)]
    if not units:
        return
    device = next(network.parameters()).device
    try:
        CompiledKernels().moments(torch.zeros(1, 2, 3, device=device), (1,))
    except Exception as error:  # torch's compiler fails in many ways
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        needed = "a C++ compiler" if device.type == "cpu" else "Triton"
        msg = f"torch.compile does not work here ({reason}): install {needed}, or leave compile out"
        raise RuntimeError(msg) from error
    for unit in units:
        unit.compiled = True
