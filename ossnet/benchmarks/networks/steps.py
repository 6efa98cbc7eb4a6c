"""A network's training step and its inference, timed on random data."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median

import torch
from torch import nn

from ossnet.benchmarks.timer import DeviceTimer, best_time
from ossnet.config import Config
from ossnet.inference.methods.sliding_window import dense_logits
from ossnet.models import DenseNetwork, OccupancyNetwork, network_from_config
from ossnet.models.kernels.precision import autocast
from ossnet.planning.peak import dummy_batch
from ossnet.sampling.batch import Batch, PointBatch
from ossnet.training.compilation import maybe_compile
from ossnet.training.optimizer import build_optimizer
from ossnet.training.step import batch_loss


@dataclass(frozen=True)
class StepTimes:
    """Seconds of the fastest repeat, and of the median one."""

    forward_s: float
    """Forward pass and loss."""
    backward_s: float
    update_s: float
    """The optimizer."""
    step_s: float
    """The sum of the three."""
    step_median_s: float
    n_predictions: int
    """Points, or voxels of a U-Net, of the step."""


@dataclass(frozen=True)
class InferenceTime:
    """Seconds of the fastest repeat without gradients."""

    seconds: float
    n_predictions: int
    """Points decoded from an encoded volume, or voxels of a volume that a U-Net segments whole."""


def time_network(config: Config, device: torch.device, *, repeats: int) -> tuple[StepTimes, InferenceTime]:
    """Train a fresh network for some steps, then let it decide.

    Raises:
        torch.OutOfMemoryError: it does not fit.
    """
    with torch.random.fork_rng(devices=[]), device:
        torch.manual_seed(config.training.seed)
        network = network_from_config(config.model)
        maybe_compile(config.training.compile, network)
        batch = _random_batch(config, device)
    return _time_steps(network, batch, config, repeats), _time_inference(network, batch, config, repeats)


def _random_batch(config: Config, device: torch.device) -> Batch:
    """Random, as products of zeros draw less power on a GPU and so run at a higher clock."""
    batch = dummy_batch(config, volumes=config.training.batch_size, device=device)
    for tensor in batch.tensors():
        if tensor.is_floating_point():
            tensor.uniform_(-1, 1)
        else:
            tensor.random_(0, 2)  # background or the first class
    return batch


def _time_steps(network: nn.Module, batch: Batch, config: Config, repeats: int) -> StepTimes:
    network.train()
    device = next(network.parameters()).device
    optimizer = build_optimizer(network, config.optimizer)

    def step() -> list[float]:
        timer = DeviceTimer(device)
        timer.record()
        optimizer.zero_grad()
        with autocast(device, config.training.precision):
            loss = batch_loss(network, batch, config.loss)
        timer.record()
        loss.backward()
        timer.record()
        optimizer.step()
        timer.record()
        return timer.elapsed()

    step()  # makes the optimizer's state
    steps = [step() for _ in range(repeats)]
    forward, backward, update = min(steps, key=sum)
    return StepTimes(
        forward_s=forward,
        backward_s=backward,
        update_s=update,
        step_s=forward + backward + update,
        step_median_s=median(map(sum, steps)),
        n_predictions=batch.n_predictions,
    )


@torch.inference_mode()
def _time_inference(network: nn.Module, batch: Batch, config: Config, repeats: int) -> InferenceTime:
    network.eval()
    device = next(network.parameters()).device
    with autocast(device, config.training.precision):
        work, n_predictions = _inference(network, batch, config, device)
        return InferenceTime(best_time(work, device, repeats=repeats), n_predictions)


def _inference(
    network: nn.Module, batch: Batch, config: Config, device: torch.device
) -> tuple[Callable[[], object], int]:
    """The work to time, and the number of points or voxels that it predicts."""
    if isinstance(network, OccupancyNetwork) and isinstance(batch, PointBatch):
        latent = network.encode(batch.encoder_input)
        points = batch.coordinates, batch.network_patches, batch.grid_shape
        return partial(network.decode, latent, *points), batch.n_predictions
    assert isinstance(network, DenseNetwork)
    shape = config.sampling.working_shape
    assert shape is not None
    image = torch.rand(config.model.in_channels, *shape, device=device)
    work = partial(dense_logits, network, image, sampling=config.sampling, settings=config.inference)
    return work, image[0].numel()
