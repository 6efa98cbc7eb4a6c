"""Communication of this process with the workers of a run; a process alone is rank 0 of 1.

Of data parallelism too: gradients lie in the buckets that are exchanged, so they take no memory twice; but
they stay from step to step, where otherwise they go before each.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

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


def wrap_ddp(network: nn.Module) -> nn.Module:
    """The network, wrapped where several processes train it."""
    if world_size() == 1:
        return network
    return DistributedDataParallel(network, gradient_as_bucket_view=True)


def is_ddp(network: nn.Module) -> bool:
    """Whether the network is wrapped."""
    return isinstance(network, DistributedDataParallel)


def unwrap_ddp(network: nn.Module) -> nn.Module:
    """The network itself, out of its wrapper."""
    return network.module if isinstance(network, DistributedDataParallel) else network


def exchange_gradients(network: nn.Module, *, last: bool) -> AbstractContextManager[None]:
    """Have the processes exchange gradients once a step, in its last backward pass."""
    if isinstance(network, DistributedDataParallel) and not last:
        return network.no_sync()
    return nullcontext()


def put_gradients_in_bucket(parameters: Iterable[nn.Parameter]) -> None:
    """Give parameters gradients of zeros in one storage, as a wrapped network has them after a step."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    bucket = torch.zeros(sum(each.numel() for each in trained), device=trained[0].device)
    for parameter, gradient in zip(trained, bucket.split([each.numel() for each in trained]), strict=True):
        parameter.grad = gradient.as_strided(parameter.shape, parameter.stride())


def _grouped() -> bool:
    return distributed.is_available() and distributed.is_initialized()
