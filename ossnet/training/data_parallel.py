"""Data parallelism: every process has the network, and gradients lie in the buckets that are exchanged.

So they take no memory twice; but they stay from step to step, where otherwise they go before each.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ossnet.training.collectives import world_size


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
