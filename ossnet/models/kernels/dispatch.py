"""The choice between eager and compiled arithmetic of tiles."""

from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from ossnet.models.kernels.base import Kernels
from ossnet.models.kernels.eager import EagerKernels


def kernels(*, compiled: bool) -> Kernels:
    """Compiled ones if they are asked for, and no dispatch mode is on that must see each operation."""
    if compiled and not is_in_torch_dispatch_mode():
        from ossnet.models.kernels.compiled import CompiledKernels

        return CompiledKernels()
    return EagerKernels()
