"""The private interfaces of torch that this package needs.

torch may change any of them without notice: tests/models/test_torch_interfaces.py then fails. Nothing else in
`ossnet` uses a name of torch that begins with an underscore, nor an operator without a public function.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, is_in_torch_dispatch_mode

__all__ = ["FakeTensor", "FakeTensorMode", "TorchDispatchMode"]


def is_fake(tensor: Tensor) -> bool:
    """Whether a tensor has a shape and no values."""
    return isinstance(tensor, FakeTensor)


def fake_mode_is_on() -> bool:
    """Whether new tensors are fake: inside a `FakeTensorMode`."""
    return detect_fake_mode() is not None


def operations_are_watched() -> bool:
    """Whether a dispatch mode is on, which must see each operation."""
    return bool(is_in_torch_dispatch_mode())


def storage_key(storage: torch.UntypedStorage) -> int:
    """A number that identifies a living storage, whatever Python object holds it."""
    return int(storage._cdata)


def allow_recompilations(count: int) -> None:
    """Let torch's compiler make at least `count` variants of a function before it gives up."""
    import torch._dynamo

    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, count)


def onednn_convolution(layer: nn.Conv3d, volume: Tensor) -> Tensor:
    """Apply a convolution by oneDNN, which torch would not choose for every volume."""
    padding: Any = layer.padding
    result: Tensor = torch.ops.aten.mkldnn_convolution(
        volume, layer.weight, layer.bias, padding, layer.stride, layer.dilation, layer.groups
    )
    return result
