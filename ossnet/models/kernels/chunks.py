"""A function of points a part at a time, where no gradient or batch statistic ties them together."""

from collections.abc import Callable

import torch
from torch import Tensor

_CPU_POINTS = 1 << 12
_DEVICE_POINTS = 1 << 16


def chunked(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """`function(*inputs)` of tensors [B, N, ...], over slices of N: memory stays that of one slice."""
    size = _CPU_POINTS if inputs[0].device.type == "cpu" else _DEVICE_POINTS
    points = inputs[0].shape[1]
    if points <= size:
        return function(*inputs)
    starts = range(0, points, size)
    return torch.cat([function(*(each[:, start : start + size] for each in inputs)) for start in starts], 1)
