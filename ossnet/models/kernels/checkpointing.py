"""Keeping what goes into a part of a network rather than all that happens in it: the rest is made again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import TypeVar

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ossnet.models.kernels.normalization import BatchStatistics

Result = TypeVar("Result")


def checkpointed(part: nn.Module, function: Callable[..., Result], *inputs: Tensor | None) -> Result:
    """`function(*inputs)`, computed again in the backward pass.

    Args:
        part: whose batch statistics the function takes; running averages follow them once only.
    """
    result: Result = checkpoint(
        function,
        *inputs,
        use_reentrant=False,
        preserve_rng_state=False,  # nothing is drawn
        context_fn=lambda: (nullcontext(), _untracked(part)),
    )
    return result


@contextmanager
def _untracked(part: nn.Module) -> Iterator[None]:
    units = [module for module in part.modules() if isinstance(module, BatchStatistics)]
    for unit in units:
        unit.tracked = False
    try:
        yield
    finally:
        for unit in units:
            unit.tracked = True
