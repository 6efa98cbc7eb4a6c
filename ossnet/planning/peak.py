"""Peak memory of one optimizer step of a configuration: measured by taking it, or predicted without."""

import torch
from torch import Tensor

from ossnet.config import Config
from ossnet.memory import PeakMemory, track_peak
from ossnet.memory.device import resolve_device
from ossnet.memory.peak import GIB
from ossnet.models import network_from_config
from ossnet.models.kernels._fake import FakeTensorMode, fake_mode_is_on
from ossnet.planning.fake_optimizer import LargestSteps, make_state
from ossnet.sampling.batch import Batch, empty_batch
from ossnet.sampling.batches import drawing_bytes
from ossnet.sampling.sampler import largest_part, parts_of_share
from ossnet.training.collectives import put_gradients_in_bucket
from ossnet.training.optimizer import Steps, build_optimizer, state_tensors
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

    Examples:
        >>> config = Config.preset("oss-net-a").replace(
        ...     {"sampling.working_shape": [64, 64, 64], "training.batch_size": 2}
        ... )
        >>> peak = predict(config)
        >>> f"{peak.allocated_gib:.1f} GiB, most of it for the {max(peak.parts, key=peak.parts.get)}"
        '1.3 GiB, most of it for the decoder'

    Args:
        config: what to train; its working shape must be set.
        workers: number of workers that share the batch; the peak is that of one of them.

    Raises:
        UserError: the configuration has no working shape yet.
    """
    with FakeTensorMode():
        return _second_step(config, torch.device("cpu"), workers)


def neediest(config: Config, fewest: int, most: int) -> int:
    """The number of workers of a range with which one of them needs most memory: mostly the fewest.

    Where a batch passes in parts, three workers may take larger ones than two, as its volumes divide.
    """
    training = config.training

    def part(workers: int) -> tuple[int, int]:
        volumes = largest_part(
            training.accumulation_steps, batch_size=training.batch_size, world_size=workers
        )
        return volumes, workers  # of equals the more, as several keep their gradients from step to step

    return max(range(fewest, most + 1), key=part)


def dummy_batch(config: Config, *, volumes: int, device: torch.device) -> Batch:
    """Make a batch of zeros for `volumes` volumes.

    Raises:
        UserError: the configuration has no working shape yet.
    """
    batch = empty_batch(("dummy",) * volumes, config.model, config.sampling, device)
    for tensor in batch.tensors():
        tensor.zero_()
    return batch


def next_batch(config: Config, batch: Batch) -> list[Tensor]:
    """Room for what is made while a step on this batch runs: the next batch and the volume it is drawn from.

    It is never touched, so that on a CPU it takes no memory.
    """
    room = [torch.empty_like(tensor) for tensor in batch.tensors()]
    drawing = drawing_bytes(config.model, config.sampling, config.augmentation)
    return [*room, torch.empty(drawing, dtype=torch.uint8, device=room[0].device)]


def device_cache(config: Config, device: torch.device) -> Tensor:
    """Room for the volumes that stay on the device; never touched."""
    return torch.empty(int((config.training.device_cache_gib or 0) * GIB), dtype=torch.uint8, device=device)


def _second_step(config: Config, device: torch.device, workers: int) -> PeakMemory:
    """The first step makes the optimizer's state, the second is measured. Fake tensors need no warm-up."""
    precision = config.training.precision
    with torch.random.fork_rng(devices=[]), device:  # fake parameters can be made, but not moved
        network = network_from_config(config.model)
        network.train()
    optimizer = build_optimizer(network, config.optimizer)
    stepped: Steps = LargestSteps(optimizer) if fake_mode_is_on() else optimizer
    training = config.training
    share = {"batch_size": training.batch_size, "world_size": workers}
    pieces = parts_of_share(training.accumulation_steps, **share)
    batch = dummy_batch(config, volumes=largest_part(training.accumulation_steps, **share), device=device)

    def step() -> None:
        # a third part would do what the second does: gradients are there, and are added to
        same = [batch] * min(pieces, 2)
        seen = len(same) * len(batch.cases)
        accumulated_step(
            network,
            stepped,
            same,
            config.loss,
            volumes=seen,
            precision=precision,
            keep_gradients=workers > 1,
        )

    if workers > 1 or fake_mode_is_on():
        put_gradients_in_bucket(network.parameters())
    if fake_mode_is_on():
        make_state(optimizer)
    else:
        step()
    parts = {
        "parameters": [*network.parameters(), *network.buffers()],
        "optimizer_state": state_tensors(optimizer),
        "batch": batch.tensors(),
        "next_batch": next_batch(config, batch),
        "device_cache": [device_cache(config, device)],
    }
    with track_peak(device, resident=parts, modules=network.parts(), precision=precision) as peak:
        step()
    return peak.memory
