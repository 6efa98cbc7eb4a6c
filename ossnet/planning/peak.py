"""Peak memory of one optimizer step of a configuration: measured by taking it, or predicted without."""

import torch

from ossnet.config import Config
from ossnet.memory import PeakMemory, track_peak
from ossnet.memory.device import resolve_device
from ossnet.memory.peak import GIB
from ossnet.models import network_from_config
from ossnet.models.kernels._torch import FakeTensorMode, fake_mode_is_on
from ossnet.planning.dummy_batch import dummy_batch
from ossnet.training.optimizer import build_optimizer, state_tensors
from ossnet.training.step import accumulated_step


def measure(config: Config, *, device: str | None = None, workers: int = 1) -> PeakMemory:
    """Measure the peak memory of an optimizer step by taking two on a batch of zeros; the second one counts.

    Args:
        config: what to train; its working shape must be set.
        device: where to take the steps, as torch names it; by default a GPU if there is one.
        workers: number of workers that share the batch; the peak is that of one of them.

    Raises:
        UserError: the configuration has no working shape yet, or there is no such device.
        torch.OutOfMemoryError: it does not fit.
    """
    return _second_step(config, resolve_device(device), workers)


def predict(config: Config, *, workers: int = 1) -> PeakMemory:
    """Predict the peak memory of an optimizer step, without memory or a GPU, by taking it on fake tensors.

    Memory that is not a tensor's is not included: workspace of kernels, fragments of the allocator, a GPU's
    context.

    Args:
        config: what to train; its working shape must be set.
        workers: number of workers that share the batch; the peak is that of one of them.

    Raises:
        UserError: the configuration has no working shape yet.
    """
    with FakeTensorMode():
        return _second_step(config, torch.device("cpu"), workers)


def _second_step(config: Config, device: torch.device, workers: int) -> PeakMemory:
    """The first step makes the optimizer's state, the second is measured. Fake tensors need no warm-up: there
    the optimizer alone takes the first step."""
    precision = config.training.precision
    with torch.random.fork_rng(devices=[]), device:  # fake parameters can be made, but not moved
        network = network_from_config(config.model)
        network.train()
    optimizer = build_optimizer(network, config.optimizer)
    volumes = -(-config.training.batch_size // workers)
    pieces = min(config.training.accumulation_steps, volumes)
    batch = dummy_batch(config.model, config.sampling, volumes=-(-volumes // pieces), device=device)

    def step() -> None:
        # a third part would do what the second does: gradients are there, and are added to
        same = [batch] * min(pieces, 2)
        seen = len(same) * len(batch.cases)
        accumulated_step(network, optimizer, same, config.loss, volumes=seen, precision=precision)

    if not fake_mode_is_on():
        step()
    else:
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    parts = {
        "parameters": [*network.parameters(), *network.buffers()],
        "optimizer_state": state_tensors(optimizer),
        "batch": batch.tensors(),
        "device_cache": [
            torch.empty(int(config.training.device_cache_gib * GIB), dtype=torch.uint8, device=device)
        ],
    }
    with track_peak(device, resident=parts, modules=network.parts(), precision=precision) as peak:
        step()
    return peak.memory
