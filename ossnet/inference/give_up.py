"""Giving up a prediction that takes too long: between two of the network's layers, wherever that is."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

from torch import nn


class _TimeIsUp(Exception):  # noqa: N818 - it is no error
    pass


@contextmanager
def give_up(
    network: nn.Module, until: float, now: Callable[[], float] = time.monotonic
) -> Iterator[Callable[[], bool]]:
    """Leave the block at the first call of one of the network's layers after a time.

    Args:
        until: by the clock `now`, in seconds.

    Yields:
        A function that says whether the block was left so.
    """
    given_up = False
    if until == inf:
        yield lambda: False
        return

    def check(*_: Any) -> None:
        if now() > until:
            raise _TimeIsUp

    hooks = [each.register_forward_pre_hook(check) for each in network.modules()]
    try:
        yield lambda: given_up
    except _TimeIsUp:
        given_up = True
    finally:
        for hook in hooks:
            hook.remove()
