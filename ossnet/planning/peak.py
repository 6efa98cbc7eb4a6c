"""Peak memory of one optimizer step of a configuration: measured by taking it, or predicted without."""

from typing import Protocol

import torch
from torch._guards import detect_fake_mode
from torch._subclasses.fake_tensor import FakeTensorMode

from ossnet.memory import PeakMemory, track_peak
from ossnet.models import NetworkConfig, network_from_config
from ossnet.planning.dummy_batch import dummy_batch
from ossnet.sampling import SamplingConfig
from ossnet.training import LossConfig, OptimizerConfig, TrainingConfig
from ossnet.training.optimizer import build_optimizer, state_tensors
from ossnet.training.step import optimizer_step


class Plannable(Protocol):
    """The parts of `ossnet.config.Config` that decide the memory of training."""

    @property
    def model(self) -> NetworkConfig: ...
    @property
    def sampling(self) -> SamplingConfig: ...
    @property
    def loss(self) -> LossConfig: ...
    @property
    def optimizer(self) -> OptimizerConfig: ...
    @property
    def training(self) -> TrainingConfig: ...


def measure(config: Plannable, *, device: str | None = None, workers: int = 1) -> PeakMemory:
    """Peak of the second step, really taken on a batch of zeros.

    Args:
        device: by default the current CUDA device, or the CPU.
        workers: among which the batch is shared; the peak is one worker's.

    Raises:
        UserError: the configuration has no working shape yet.
        torch.OutOfMemoryError: it does not fit.
    """
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    return _second_step(config, place, workers)


def predict(config: Plannable, *, workers: int = 1) -> PeakMemory:
    """The same quantity without memory or a GPU: the same step on fake tensors.

    What no tensor shows is not in it: kernels' workspace, the allocator's fragments, a GPU's context.

    Raises:
        UserError: the configuration has no working shape yet.
    """
    with FakeTensorMode():
        return _second_step(config, torch.device("cpu"), workers)


def _second_step(config: Plannable, device: torch.device, workers: int) -> PeakMemory:
    """The first step makes the optimizer's state, the second is counted; on fake tensors, where nothing warms
    up, the first is the optimizer's alone."""
    precision = config.training.precision
    with torch.random.fork_rng(devices=[]), device:  # fake parameters can be made, but not moved
        network = network_from_config(config.model)
        network.train()
    optimizer = build_optimizer(network, config.optimizer)
    volumes = -(-config.training.batch_size // workers)
    batch = dummy_batch(config.model, config.sampling, volumes=volumes, device=device)
    if detect_fake_mode() is None:
        optimizer_step(network, optimizer, batch, config.loss, precision=precision)
    else:
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    parts = {
        "parameters": [*network.parameters(), *network.buffers()],
        "optimizer_state": state_tensors(optimizer),
        "batch": batch.tensors(),
    }
    with track_peak(device, resident=parts, modules=network.parts(), precision=precision) as peak:
        optimizer_step(network, optimizer, batch, config.loss, precision=precision)
    return peak.memory
