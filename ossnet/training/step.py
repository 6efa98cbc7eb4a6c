"""An optimizer step, for any network and batch, whole or in parts whose gradients are added up.

Letters: B batch, K logits, M places (points or voxels, flattened).
"""

from collections.abc import Iterable

from torch import Tensor, nn

from ossnet.models.kernels.precision import autocast
from ossnet.sampling.batch import Batch, DenseBatch, PointBatch
from ossnet.training.collectives import exchange_gradients, unwrap_ddp
from ossnet.training.config import LossConfig
from ossnet.training.losses import (
    auxiliary_loss,
    deep_supervision_loss,
    distance_loss,
    segmentation_loss,
)
from ossnet.training.optimizer import Steps
from ossnet.training.uncertain_points import select_uncertain


def batch_loss(network: nn.Module, batch: Batch, config: LossConfig) -> Tensor:
    """Forward pass and loss of a batch; `network` may be wrapped for data parallelism."""
    if isinstance(batch, PointBatch):
        prediction = network(batch.encoder_input, batch.coordinates, batch.network_patches, batch.grid_shape)
        labels = batch.labels if batch.labels.ndim == 2 else batch.labels.movedim(-1, 1)
        loss = segmentation_loss(prediction.logits.movedim(-1, 1), labels, config)
        if prediction.auxiliary is not None:
            coarse = auxiliary_loss(prediction.auxiliary, batch.coarse_labels)
            loss = loss + config.auxiliary_weight * coarse
        if prediction.distances is not None:
            assert batch.distances is not None
            loss = loss + config.distance_weight * distance_loss(prediction.distances, batch.distances)
        return loss
    assert isinstance(batch, DenseBatch)
    places = batch.labels.ndim - batch.image[0, 0].ndim  # the first axis of voxels, after those of regions
    logits = network(batch.image)
    if isinstance(logits, tuple):
        return deep_supervision_loss(logits, batch.labels, config)
    return segmentation_loss(logits.flatten(2), batch.labels.flatten(places), config)


def optimizer_step(
    network: nn.Module, optimizer: Steps, batch: Batch, config: LossConfig, *, precision: str
) -> Tensor:
    """Forward, backward and update; the detached loss."""
    volumes = len(batch.cases)
    return accumulated_step(network, optimizer, [batch], config, volumes=volumes, precision=precision)


def accumulated_step(
    network: nn.Module,
    optimizer: Steps,
    parts: Iterable[Batch],
    config: LossConfig,
    *,
    volumes: int,
    precision: str,
    mean_volumes: float | None = None,
    keep_gradients: bool = False,
) -> Tensor:
    """Forward and backward for each part of a batch, then one update; the detached loss of the whole batch.

    Loss and gradients are those of the whole batch but for a network's batch statistics, which are each
    part's own.

    Args:
        parts: the batch, in parts that hold `volumes` volumes together; each may be made when it is asked
            for, and goes after its backward pass.
        mean_volumes: the mean over the workers of their `volumes`, where those differ: loss and gradients are
            then weighted so that their means over the workers are those of all volumes.
        keep_gradients: whether gradients are set to zero before, not let go of: those of data parallelism.
    """
    optimizer.zero_grad(set_to_none=not keep_gradients)
    total: Tensor | None = None
    seen = 0
    for part in parts:
        seen += len(part.cases)
        with exchange_gradients(network, last=seen >= volumes):
            loss = _part_loss(network, part, config, precision)
            if len(part.cases) != (mean_volumes or volumes):
                loss = loss * (len(part.cases) / (mean_volumes or volumes))
            loss.backward()
        total = loss.detach() if total is None else total + loss.detach()
        del part, loss
    assert total is not None
    optimizer.step()
    return total


def _part_loss(network: nn.Module, batch: Batch, config: LossConfig, precision: str) -> Tensor:
    device = next(network.parameters()).device
    if isinstance(batch, PointBatch):
        # In a context of its own: weights that autocast converted without gradients must not be used again.
        with autocast(device, precision):
            batch = select_uncertain(unwrap_ddp(network), batch)
    with autocast(device, precision):
        return batch_loss(network, batch, config)
