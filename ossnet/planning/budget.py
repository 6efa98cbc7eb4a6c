"""Which GPUs a peak fits, and how much of a configuration fits a budget."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from ossnet import config_tree as tree
from ossnet.inference.query.grid import prediction_grid
from ossnet.models import OccupancyConfig
from ossnet.planning.dummy_batch import require_working_shape
from ossnet.planning.estimator import PeakEstimator
from ossnet.planning.peak import Plannable

Configuration = TypeVar("Configuration", bound=Plannable)

GB = 10**9
COMMON_GPUS = tuple(size * GB for size in (8, 12, 16, 24, 40, 48, 80, 141))
"""Memory of the common GPUs, in bytes; the cautious reading of the makers' figures."""
EDGE = 16
"""Voxels by which the longest edge is varied."""
MOST = {"batch": 2**12, "points": 2**24, "edge": 2**11}
"""Where the search for the largest stops: beyond these other things than memory decide."""


@dataclass(frozen=True)
class MemoryOverhead:
    """What a GPU needs beyond living tensors: its context, kernels' workspace, the allocator's fragments.

    A starting guess until it has been calibrated on GPUs.
    """

    factor: float = 1.15
    fixed: int = 8 * 10**8

    def needed(self, allocated: int) -> int:
        """Bytes of a GPU for a peak of living tensors."""
        return round(allocated * self.factor) + self.fixed

    def __str__(self) -> str:
        return f"{self.factor:g} x peak + {self.fixed / GB:g} GB"


MARGIN = MemoryOverhead()


@dataclass(frozen=True)
class MaxSizes:
    """The largest of each that fits, all else as configured; None where even the smallest does not fit."""

    batch: int | None
    """Volumes a step."""
    points: int | None
    """Points a volume, to 64; also None for networks without points."""
    shape: tuple[int, int, int] | None
    """Working shape of the same proportions, its longest edge to 16 voxels."""


def smallest_gpu(needed: int) -> int | None:
    """Bytes of the smallest common GPU that suffices."""
    return next((size for size in COMMON_GPUS if needed <= size), None)


def limits(config: Plannable, budget: int, forecast: PeakEstimator) -> MaxSizes:
    """The largest batch, points and shape of a configuration that a budget has room for.

    Raises:
        UserError: the configuration has no working shape yet.
    """

    def search(change: Callable[[int], Plannable], start: int, most: int) -> int | None:
        return largest(
            lambda size: MARGIN.needed(forecast.training(change(size)).allocated), budget, start, most
        )

    batch = search(
        lambda size: changed(config, {"training.batch_size": size}),
        config.training.batch_size,
        MOST["batch"],
    )
    points = None
    if isinstance(config.model, OccupancyConfig):
        points = search(
            lambda size: changed(config, {"sampling.points": 64 * size}),
            -(-config.sampling.points // 64),
            MOST["points"] // 64,
        )
    longest = max(require_working_shape(config.sampling))
    edge = search(lambda size: resized(config, EDGE * size), -(-longest // EDGE), MOST["edge"] // EDGE)
    return MaxSizes(
        batch=batch,
        points=None if points is None else 64 * points,
        shape=None if edge is None else require_working_shape(resized(config, EDGE * edge).sampling),
    )


def largest(peak: Callable[[int], int], budget: int, start: int, most: int) -> int | None:
    """The greatest whole number from 1 to `most` whose peak, which rises with it, is within a budget.

    Most peaks are straight lines, so the next size tried is where a line through the last two meets the
    budget; every fourth is half way. Above 32 it is exact to 3 %, as each try takes seconds.
    """
    tried, low, high = [(0, 0)], 0, None
    size = start
    while True:
        tried.append((size, peak(size)))
        if tried[-1][1] > budget:
            high = size
        else:
            low = size
        step = max(1, low // 32)
        if low >= most or (high is not None and high - low <= step):
            return low or None
        one, other = sorted(tried[-2:])
        size = one[0] + (budget - one[1]) * (other[0] - one[0]) // max(other[1] - one[1], 1)
        if len(tried) % 4 == 0 and high is not None:
            size = (low + high) // 2
        size = min(max(size, low + step), most if high is None else high - 1)


def changed(config: Configuration, values: dict[str, Any]) -> Configuration:
    """A copy with the values at the given dotted paths changed."""
    return tree.replace(config, values)


def resized(config: Configuration, edge: int) -> Configuration:
    """The same network on a working grid of the same proportions and another longest edge, in voxels."""
    shape = require_working_shape(config.sampling)
    scaled = [max(EDGE, -(-length * edge // max(shape) // EDGE) * EDGE) for length in shape]
    return changed(config, {"sampling.working_shape": prediction_grid(config.model, scaled, None)})
