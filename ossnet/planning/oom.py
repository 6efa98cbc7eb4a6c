"""Out of memory, foreseen or told: what a step is predicted to need, and the setting that would help most."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ossnet.errors import OutOfMemory
from ossnet.memory.available import available_memory
from ossnet.memory.peak import GIB
from ossnet.models import OccupancyConfig
from ossnet.planning.budget import changed
from ossnet.planning.peak import Plannable, predict

_CPU_ALLOCATOR = ("DefaultCPUAllocator", "not enough memory", "Cannot allocate memory")


def check_memory(
    config: Plannable, device: torch.device, *, workers: int, predicted_gib: float | None = None
) -> float:
    """Reject what cannot fit before it begins: a system that is out of main memory kills without a message.

    Args:
        predicted_gib: the peak, where it has been predicted before.

    Returns:
        The predicted peak of a training step of one worker, in GiB.

    Raises:
        OutOfMemory: it is more than the device has for this process.
    """
    if predicted_gib is None:
        predicted_gib = predict(config, workers=workers).allocated_gib
    there_gib = available_memory(device) / GIB
    if predicted_gib > there_gib:
        raise OutOfMemory(explanation(config, workers=workers, there_gib=there_gib))
    return predicted_gib


@contextmanager
def reraise_oom(
    config: Plannable, *, workers: int, measured_gib: Callable[[], float | None]
) -> Iterator[None]:
    """Turn the many ways in which a block can run out of memory into one error of one line.

    Args:
        config: of the run, with its working shape.
        workers: among which the batch is shared.
        measured_gib: asked when it happens: the run's measured peak, where there is one.

    Raises:
        OutOfMemory: the block did.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        told = explanation(config, measured_gib=measured_gib(), workers=workers)
        raise OutOfMemory(told) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is the GPU's or the main memory's end."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _CPU_ALLOCATOR)


def explanation(
    config: Plannable, *, workers: int, measured_gib: float | None = None, there_gib: float | None = None
) -> str:
    """The predicted peak, the measured one or what there is, and what the most helpful change would make of
    it, in one line."""
    now = predict(config, workers=workers).allocated
    peaks = {
        option: predict(changed(config, values), workers=workers).allocated
        for option, values in memory_saving_options(config, workers=workers).items()
    }
    measured = "" if measured_gib is None else f" (measured: {measured_gib:.3g} GiB)"
    there = "" if there_gib is None else f", and {there_gib:.3g} GiB are there"
    told = (
        f"out of memory: a training step of {config.model.name} is predicted to take "
        f"{now / GIB:.3g} GiB{measured} a worker{there}"
    )
    best = min(peaks, key=lambda option: peaks[option], default=None)
    if best is None or peaks[best] >= now:
        return f"{told}: use a larger machine or a smaller network"
    return f"{told}; with {best} it would be {peaks[best] / GIB:.3g} GiB"


def memory_saving_options(config: Plannable, *, workers: int) -> dict[str, dict[str, Any]]:
    """Changes that save memory, by how they are written on a command line."""
    model, training = config.model, config.training
    found: dict[str, dict[str, Any]] = {}
    if training.batch_size // 2 >= workers:
        found[f"--training.batch-size {training.batch_size // 2}"] = {
            "training.batch_size": training.batch_size // 2
        }
    if training.precision == "float32":
        found["--training.precision bf16"] = {"training.precision": "bf16"}
    points = config.sampling.points // 2
    if isinstance(model, OccupancyConfig) and points:
        found[f"--sampling.points {points}"] = {"sampling.points": points}
    for name, value in model.memory_savings().items():
        path = f"model.{name}"
        found[f"--{path.replace('_', '-')}{_argument(value)}"] = {path: value}
    return found


def _argument(value: object) -> str:
    """A value as it follows its option."""
    if value is True:
        return ""
    return f" {' '.join(map(str, value)) if isinstance(value, tuple) else value}"
