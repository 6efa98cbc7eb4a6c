"""The memory that one configuration needs, and how it grows with the resolution."""

from dataclasses import dataclass, replace
from math import prod

from ossnet.config import Config
from ossnet.memory import PeakMemory
from ossnet.memory.device import resolve_device
from ossnet.models import network_config
from ossnet.planning.budget import EDGE_STEP, resized, smallest_gpu
from ossnet.planning.estimator import PeakEstimator
from ossnet.planning.margin import MARGIN
from ossnet.planning.peak import measure
from ossnet.sampling.batch import require_working_shape

RELATIVE_EDGES = (0.25, 0.5, 1.0, 1.5, 2.0)
"""Edges of the working grids in a scaling curve, relative to the configured one."""
BASELINES = ("unet-3d", "unet-2d")


@dataclass(frozen=True)
class MemoryEstimate:
    """The memory that a configuration needs."""

    name: str
    """The network, and what a search space chose."""
    training: PeakMemory
    """Predicted peak of one training step."""
    inference: PeakMemory
    """Predicted peak of predicting one volume."""
    needed: int
    """Bytes of a GPU for training: the predicted peak with the margin."""
    gpu: int | None
    """Bytes of the smallest common GPU that suffices; None where none does."""
    measured: PeakMemory | None = None
    """Measured peak of one training step, where it was requested."""


def should_measure(*, requested: bool) -> bool:
    """Whether to take real steps: where that was requested, or there is a GPU."""
    return requested or resolve_device().type == "cuda"


def estimate_memory(config: Config, estimator: PeakEstimator, *, name: str, measured: bool) -> MemoryEstimate:
    """Predict, and where `measured` also measure, the memory that a configuration needs.

    Raises:
        UserError: the configuration has no working shape yet.
        torch.OutOfMemoryError: there is too little memory to measure it.
    """
    training = estimator.training(config)
    needed = MARGIN.needed(training.allocated)
    return MemoryEstimate(
        name=name,
        training=training,
        inference=estimator.inference(config),
        needed=needed,
        gpu=smallest_gpu(needed),
        measured=measure(config) if measured else None,
    )


@dataclass(frozen=True)
class ScalingCurve:
    """Predicted peaks of training at several resolutions."""

    network: str
    shapes: tuple[tuple[int, int, int], ...]
    """Working shapes X, Y, Z in voxels."""
    gib: tuple[float, ...]
    """Predicted peak at each working shape, in GiB."""

    @property
    def edges(self) -> list[float]:
        """Edges, in voxels, of cubes with as many voxels as the working shapes have."""
        return [prod(shape) ** (1 / 3) for shape in self.shapes]


def scaling_curves(config: Config, estimator: PeakEstimator) -> list[ScalingCurve]:
    """Predict the peaks of a configuration, and of U-Nets in place of its network, at several resolutions.

    Raises:
        UserError: the configuration has no working shape yet.
    """
    model = config.model
    baselines = {
        name: network_config(
            name, in_channels=model.in_channels, classes=model.classes, overlapping=model.overlapping
        )
        for name in BASELINES
    }
    models = baselines | {model.name: model}
    return [_scaling_curve(replace(config, model=each), estimator) for each in models.values()]


def _scaling_curve(config: Config, estimator: PeakEstimator) -> ScalingCurve:
    longest = max(require_working_shape(config.sampling))
    edges = sorted({max(4, round(step * longest / EDGE_STEP)) * EDGE_STEP for step in RELATIVE_EDGES})
    sized = {require_working_shape(each.sampling): each for each in (resized(config, edge) for edge in edges)}
    peaks = [estimator.training(each).allocated_gib for each in sized.values()]
    return ScalingCurve(config.model.name, tuple(sized), tuple(peaks))
