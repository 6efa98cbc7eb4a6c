"""Mean and variance of a batch, over every rank of a distributed run.

torch's own synchronized normalization refuses to run on CPUs; this one runs on any backend, and is exact: the
statistics, and their gradients, are those of one process holding the whole batch.

Letters: B batch, N rows, W columns, C statistics (1, or a divisor of W: column w has statistic w mod C).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, distributed

from ossnet.models.kernels.base import kernels
from ossnet.models.kernels.precision import working_dtype
from ossnet.models.kernels.tiles import tiles


class Moments(NamedTuple):
    """Statistics in float32 (float64 for float64 data)."""

    mean: Float[Tensor, "C"]
    variance: Float[Tensor, "C"]
    """Biased variance: the mean square about the mean."""
    values: float | Tensor
    """Number of values behind each statistic."""


def ranks_share_batch() -> bool:
    """True in a process group of more than one rank."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def sum_over_ranks(values: Tensor) -> Tensor:
    """Add a tensor up over all ranks, in place; itself in a single process."""
    if ranks_share_batch():
        distributed.all_reduce(values)
    return values


def fold(columns: Float[Tensor, "*any"], statistics: int) -> Float[Tensor, "C"]:
    """Add up whatever belongs to one statistic."""
    return columns.reshape(-1, statistics).sum(0)


def unfold(values: Float[Tensor, "C"], width: int) -> Float[Tensor, "1 1 V"]:
    """A statistic for each of `width` columns; a lone one stays single, to broadcast."""
    return (values if len(values) == 1 else values.repeat(width // len(values))).view(1, 1, -1)


def batch_moments(batch: Float[Tensor, "B N W"], statistics: int, *, compiled: bool = False) -> Moments:
    """Mean and variance of a batch, of all ranks together.

    Tiles are centered on a rough mean of their own and combined in float64, so that nothing is lost to
    cancellation however far the mean lies from zero.

    Raises:
        ValueError: a single value behind each statistic, which has no variance.
    """
    columns, axes = (1, (1, 2)) if statistics == 1 else (batch.shape[2], (1,))
    sums = torch.zeros(2, columns, dtype=torch.float64, device=batch.device)
    arithmetic = kernels(compiled=compiled)
    for tile in tiles(batch, arithmetic.elements(batch.device)):
        piece = batch[tile]
        count = piece.numel() / columns
        rough, centered, about_rough = (each.double() for each in arithmetic.moments(piece, axes))
        total = centered + count * rough
        # sum x^2 = sum (x - r)^2 + 2 r sum x - n r^2, for any r
        squares = about_rough + rough * (2 * total - count * rough)
        sums += torch.cat([total, squares]).view(2, columns)
    folded = torch.stack([fold(total, statistics) for total in sums])
    return _combine(folded, batch.numel() // statistics, working_dtype(batch))


def _combine(sums: Float[Tensor, "2 C"], local_count: int, dtype: torch.dtype) -> Moments:
    count: float | Tensor = local_count
    if ranks_share_batch():
        packed = torch.cat([sums.flatten(), sums.new_tensor([local_count])])
        sums, count = packed[:-1].view_as(sums), packed[-1]
        distributed.all_reduce(packed)
    elif local_count < 2:
        msg = "batch statistics need two values: use a larger volume or batch, or fewer encoder_channels"
        raise ValueError(msg)
    mean = sums[0] / count
    variance = (sums[1] / count - mean.square()).clamp_(min=0)
    return Moments(mean.to(dtype), variance.to(dtype), count)
