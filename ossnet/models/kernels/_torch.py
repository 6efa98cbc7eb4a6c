"""The private interfaces of torch that this package needs, but for fake tensors: `_fake.py`.

torch may change any of them without notice: tests/models/test_torch_interfaces.py then fails. Nothing else in
`ossnet` uses a name of torch that begins with an underscore, nor an operator without a public function.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, is_in_torch_dispatch_mode


class DispatchMode(TorchDispatchMode):
    """A mode without the wrapper that keeps torch's compiler away from it."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


def tensors_in(values: Iterable[Any], found: list[Tensor] | None = None) -> list[Tensor]:
    """All tensors in values and in lists of them, in order, added to those `found` before."""
    found = [] if found is None else found
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            tensors_in(value, found)
    return found


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
