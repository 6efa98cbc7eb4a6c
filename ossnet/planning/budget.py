"""Which GPUs a peak fits, and how much of a configuration fits a budget."""

from collections.abc import Callable
from dataclasses import dataclass

from ossnet.config import Config
from ossnet.inference.query.grid import prediction_grid
from ossnet.models import DenseConfig, OccupancyConfig
from ossnet.planning.estimator import PeakEstimator
from ossnet.planning.margin import GB, MARGIN
from ossnet.sampling.batch import require_working_shape

COMMON_GPUS = tuple(size * GB for size in (8, 12, 16, 24, 40, 48, 80, 141))
"""Memory of the common GPUs in bytes, reading the makers' figures as powers of ten."""
EDGE_STEP = 16
"""Voxels by which the longest edge of a working grid is varied."""
_POINTS_STEP = 64
_MAX_BATCH, _MAX_POINTS, _MAX_EDGE = 2**12, 2**24, 2**11  # beyond these other things than memory decide


@dataclass(frozen=True)
class MaxSizes:
    """The largest sizes that fit a budget, each with all else as configured; None where no size fits."""

    batch: int | None
    """Volumes per step."""
    points: int | None
    """Points per volume, a multiple of 64; also None for networks without points."""
    shape: tuple[int, int, int] | None
    """Working shape in voxels, of the same proportions; its longest edge is a multiple of 16."""


def smallest_gpu(needed: int) -> int | None:
    """Bytes of the smallest common GPU with at least `needed` bytes; None where there is none."""
    return next((size for size in COMMON_GPUS if needed <= size), None)


def max_sizes(config: Config, budget: int, estimator: PeakEstimator) -> MaxSizes:
    """Find the largest batch, points and shape of a configuration that fit a budget in bytes.

    Raises:
        UserError: the configuration has no working shape yet.
    """

    def search(with_size: Callable[[int], Config], start: int, most: int) -> int | None:
        def needed(size: int) -> int:
            return MARGIN.needed(estimator.training(with_size(size)).allocated)

        return max_fitting(needed, budget, start, most)

    def with_batch(size: int) -> Config:
        parts = min(config.training.accumulation_steps, size)
        return config.replace({"training.batch_size": size, "training.accumulation_steps": parts})

    def with_points(size: int) -> Config:
        return config.replace({"sampling.points": _POINTS_STEP * size})

    def with_edge(size: int) -> Config:
        return resized(config, EDGE_STEP * size)

    points = None
    if isinstance(config.model, OccupancyConfig):
        points = search(with_points, -(-config.sampling.points // _POINTS_STEP), _MAX_POINTS // _POINTS_STEP)
    longest = max(require_working_shape(config.sampling))
    edge = search(with_edge, -(-longest // EDGE_STEP), _MAX_EDGE // EDGE_STEP)
    return MaxSizes(
        batch=search(with_batch, config.training.batch_size, _MAX_BATCH),
        points=None if points is None else _POINTS_STEP * points,
        shape=None if edge is None else require_working_shape(with_edge(edge).sampling),
    )


def max_fitting(peak: Callable[[int], int], budget: int, start: int, most: int) -> int | None:
    """The greatest whole number from 1 to `most` whose peak, which rises with it, is within a budget.

    Most peaks are straight lines, so the next size tried is where a line through the last two meets the
    budget; every fourth is half way. Above 32 it is exact to 3 %, as each try takes seconds.

    Args:
        peak: bytes that a size needs.
        budget: bytes that there are.
        start: the size to try first.
        most: the largest size to consider.

    Returns:
        The size, or None where not even 1 fits.
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


def resized(config: Config, edge: int) -> Config:
    """A copy with a working grid of the same proportions whose longest edge is `edge` voxels; of a dense
    network at least as many as leave two cells at its bottom, as it refuses a single one."""
    if isinstance(config.model, DenseConfig):
        edge = max(edge, 2 * config.model.grid_multiple)
    shape = require_working_shape(config.sampling)
    scaled = [max(EDGE_STEP, -(-length * edge // max(shape) // EDGE_STEP) * EDGE_STEP) for length in shape]
    return config.replace({"sampling.working_shape": prediction_grid(config.model, scaled, None)})
