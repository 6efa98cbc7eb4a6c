"""An optimizer's memory on fake tensors, without a step on each of a network's hundreds of parameters."""

import heapq
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from ossnet.training.optimizer import Lookahead, Optimizer

_LARGEST = 3  # parameters, by either measure, where the peak of a step is looked for


def make_state(optimizer: Optimizer) -> None:
    """Make the state that the first step makes: each parameter's as that of the first one of its group.

    That is a count of steps and moments of the parameter's shape.
    """
    fast = _fast(optimizer)
    first = {id(group): group["params"][:1] for group in fast.param_groups}
    with _only(fast.param_groups, first):
        fast.step()
    for group in fast.param_groups:
        like, *others = group["params"]
        for parameter in others:
            fast.state[parameter] = {
                name: value.clone() if name == "step" else torch.zeros_like(parameter)
                for name, value in fast.state[like].items()
            }
    if isinstance(optimizer, Lookahead):
        optimizer.start()


class LargestSteps:
    """An optimizer that steps on the largest parameters only, where the peak of its step is.

    Parameters are stepped on one by one, so that what a step makes besides its state is in proportion to one
    of them, and to the one before it, whose last tensors are still there.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = _fast(optimizer)  # slow weights are pulled in place
        self._largest = {id(group): _largest(group["params"]) for group in optimizer.param_groups}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Let go of all gradients, or set them to zero."""
        self._optimizer.zero_grad(set_to_none)

    def step(self) -> None:
        """Step on the largest parameters."""
        with _only(self._optimizer.param_groups, self._largest):
            self._optimizer.step()


def _fast(optimizer: Optimizer) -> torch.optim.Optimizer:
    return optimizer.optimizer if isinstance(optimizer, Lookahead) else optimizer


def _largest(parameters: Sequence[nn.Parameter]) -> list[nn.Parameter]:
    """In order: the largest parameters, the largest pairs of neighbours, and the one before each."""
    sizes = [parameter.numel() for parameter in parameters]
    pairs = [before + size for before, size in pairwise([0, *sizes])]
    chosen = {
        place
        for measure in (sizes, pairs)
        for last in heapq.nlargest(_LARGEST, range(len(sizes)), measure.__getitem__)
        for place in (last - 1, last)
    }
    return [parameter for place, parameter in enumerate(parameters) if place in chosen]


@contextmanager
def _only(groups: list[dict[str, Any]], chosen: dict[int, list[nn.Parameter]]) -> Iterator[None]:
    whole = [group["params"] for group in groups]
    for group in groups:
        group["params"] = chosen[id(group)]
    try:
        yield
    finally:
        for group, parameters in zip(groups, whole, strict=True):
            group["params"] = parameters
