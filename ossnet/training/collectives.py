"""Communication of this process with the workers of a run; a process alone is rank 0 of 1."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed

from ossnet.errors import UserError


def rank() -> int:
    """The number of this worker, counted from 0."""
    return distributed.get_rank() if _grouped() else 0


def world_size() -> int:
    """The number of workers that share the run."""
    return distributed.get_world_size() if _grouped() else 1


def mean_over_ranks(value: Tensor) -> float:
    """The mean of a scalar over the workers."""
    if world_size() == 1:
        return float(value)
    total = value.detach().clone()
    distributed.all_reduce(total)
    return float(total) / world_size()


def max_over_ranks(value: float, device: torch.device) -> float:
    """The largest of a number over the workers."""
    if world_size() == 1:
        return value
    largest = torch.tensor(value, dtype=torch.float64, device=device)
    distributed.all_reduce(largest, op=distributed.ReduceOp.MAX)
    return float(largest)


def broadcast(value: Any) -> Any:
    """Rank 0's value, on every worker: what decides for all must not differ between clocks."""
    if world_size() == 1:
        return value
    values = [value]
    distributed.broadcast_object_list(values, src=0)
    return values[0]


def all_gather(values: list[Any]) -> list[Any]:
    """The lists of all workers, joined in the order of ranks."""
    if world_size() == 1:
        return values
    lists: list[Any] = [None] * world_size()
    distributed.all_gather_object(lists, values)
    return [value for each in lists for value in each]


@contextmanager
def errors_on_all(device: torch.device) -> Iterator[None]:
    """Raise a worker's `UserError` on every worker, so that none waits for one that has ended.

    Every worker enters the block; what comes after it begins when all have left it.
    """
    error = None
    try:
        yield
    except UserError as found:
        error = found
    if world_size() > 1 and max_over_ranks(float(error is not None), device):
        errors: list[UserError | None] = all_gather([error])
        error = next(each for each in errors if each is not None)
    if error is not None:
        raise error


def _grouped() -> bool:
    return distributed.is_available() and distributed.is_initialized()
