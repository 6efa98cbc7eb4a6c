"""What one configuration will need, and how that grows with the resolution."""

from dataclasses import dataclass, replace
from math import prod
from typing import Any, Protocol, cast

import torch

from ossnet.memory import PeakMemory
from ossnet.models import network_config
from ossnet.planning.budget import EDGE, MARGIN, resized, smallest_gpu
from ossnet.planning.dummy_batch import require_working_shape
from ossnet.planning.estimator import PeakEstimator
from ossnet.planning.inference import Applicable
from ossnet.planning.peak import Plannable, measure

STEPS = (0.25, 0.5, 1.0, 1.5, 2.0)
"""Edges at which growth is drawn, as shares of the configured one."""
BASELINES = ("unet-3d", "unet-2d")


class Whole(Plannable, Applicable, Protocol):
    """What training and inference need of a configuration."""


@dataclass(frozen=True)
class MemoryEstimate:
    """One configuration's memory."""

    name: str
    """The network, and what a search space decided."""
    training: PeakMemory
    """Predicted, of one step."""
    inference: PeakMemory
    """Predicted, of one volume."""
    needed: int
    """Bytes of a GPU for training: the predicted peak with the margin."""
    gpu: int | None
    """Bytes of the smallest common GPU that suffices."""
    measured: PeakMemory | None = None
    """Of one step, where that was asked for."""


def should_measure(*, asked: bool) -> bool:
    """Whether to take real steps: where it was asked for, or there is a GPU."""
    return asked or torch.cuda.is_available()


def outlook(config: Whole, forecast: PeakEstimator, *, name: str, measured: bool) -> MemoryEstimate:
    """What one configuration will need.

    Raises:
        UserError: the configuration has no working shape yet, or too little memory to measure it.
    """
    training = forecast.training(config)
    needed = MARGIN.needed(training.allocated)
    return MemoryEstimate(
        name=name,
        training=training,
        inference=forecast.inference(config),
        needed=needed,
        gpu=smallest_gpu(needed),
        measured=measure(config) if measured else None,
    )


@dataclass(frozen=True)
class ScalingCurve:
    """Predicted peaks of training at several resolutions."""

    network: str
    shapes: tuple[tuple[int, int, int], ...]
    """Working shapes."""
    gib: tuple[float, ...]

    @property
    def edges(self) -> list[float]:
        """Edges of cubes of as many voxels."""
        return [prod(shape) ** (1 / 3) for shape in self.shapes]


def growth(config: Plannable, forecast: PeakEstimator) -> list[ScalingCurve]:
    """Of a configuration and of the U-Nets in its place, all else being the same.

    Raises:
        UserError: the configuration has no working shape yet.
    """
    model = config.model
    fields: dict[str, Any] = {
        "in_channels": model.in_channels,
        "classes": model.classes,
        "overlapping": model.overlapping,
    }
    models = {name: network_config(name, **fields) for name in BASELINES} | {model.name: model}
    return [_grown(replace(cast(Any, config), model=each), forecast) for each in models.values()]


def _grown(config: Plannable, forecast: PeakEstimator) -> ScalingCurve:
    longest = max(require_working_shape(config.sampling))
    edges = sorted({max(4, round(step * longest / EDGE)) * EDGE for step in STEPS})
    sized = {require_working_shape(each.sampling): each for each in (resized(config, edge) for edge in edges)}
    peaks = [forecast.training(each).allocated_gib for each in sized.values()]
    return ScalingCurve(config.model.name, tuple(sized), tuple(peaks))
