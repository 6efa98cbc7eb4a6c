"""Bounds of the time of a step, from parts of its batch: so that a step that cannot fit is never begun."""

import time
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from ossnet.models.kernels.precision import autocast
from ossnet.sampling.batch import Batch, DenseBatch, PointBatch
from ossnet.training.config import LossConfig
from ossnet.training.step import batch_loss

_PARTS = (1 / 32, 1 / 4, 1.0)  # of the points of a volume


def least_step_s(
    network: nn.Module,
    batch: Batch,
    loss: LossConfig,
    *,
    precision: str,
    room_s: float,
    now: Callable[[], float] = time.monotonic,
) -> float | None:
    """What a step takes at least, where that is more than the room; None where it may fit.

    Parts of the first volume are passed forwards and backwards, ever larger ones, until their time says
    whether a step fits. A part's time is at most that of its volume, as the encoder sees all of it in any
    part, and at least its share of it. Weights, statistics and random numbers stay as they are.

    Args:
        network: not wrapped; on its device.
        room_s: the seconds that the step may take.
    """
    volumes = len(batch.cases) if isinstance(batch, PointBatch) else len(batch.tensors()[0])
    training = network.training
    network.eval()  # the running statistics of normalization stay as they are
    try:
        for index, share in enumerate((_PARTS[0], *_PARTS)):
            part = _part(batch, share)
            began = now()
            _pass(network, part, loss, precision)
            took = (now() - began) * volumes
            if took / _share(batch, part) <= room_s:
                return None
            if index and took > room_s:  # the first pass warms up as well
                return took
    finally:
        network.train(training)
    return None


def _pass(network: nn.Module, batch: Batch, loss: LossConfig, precision: str) -> None:
    device = next(network.parameters()).device
    with autocast(device, precision):
        value = batch_loss(network, batch, loss)
    value.backward()
    network.zero_grad(set_to_none=True)
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _part(batch: Batch, share: float) -> Batch:
    """One volume (or slice) of a batch and, of an occupancy network's, a share of its points."""
    if isinstance(batch, DenseBatch):
        return replace(batch, image=batch.image[:1], labels=batch.labels[:1])
    assert isinstance(batch, PointBatch)
    points = max(1, round(batch.coordinates.shape[1] * share))
    of_points = {"coordinates", "patches", "mid_range", "labels", "distances"}
    cut: dict[str, Any] = {
        each.name: value[:1, :points] if each.name in of_points else value[:1]
        for each in fields(batch)
        if isinstance(value := getattr(batch, each.name), Tensor)
    }
    return replace(batch, **cut, candidates=0, chosen=0)


def _share(batch: Batch, part: Batch) -> float:
    """The share of a volume's points that are in a part of it."""
    if isinstance(batch, PointBatch) and isinstance(part, PointBatch):
        return part.coordinates.shape[1] / batch.coordinates.shape[1]
    return 1.0
