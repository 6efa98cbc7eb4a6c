"""Running out of memory, predicted or real: what a step needs, and the setting that would help most."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from ossnet.config import Config
from ossnet.errors import OutOfMemory
from ossnet.memory.available import available_memory
from ossnet.memory.peak import GIB
from ossnet.models import OccupancyConfig
from ossnet.planning.peak import predict

_CPU_ALLOCATOR = ("DefaultCPUAllocator", "not enough memory", "Cannot allocate memory")


def check_memory(
    config: Config, device: torch.device, *, workers: int, predicted_gib: float | None = None
) -> float:
    """Reject a run that cannot fit before it begins: a system without main memory kills without a message.

    Args:
        predicted_gib: the peak, where it has been predicted before.

    Returns:
        The predicted peak of one worker's training step, in GiB.

    Raises:
        OutOfMemory: the peak is more than the device has for this process.
    """
    if predicted_gib is None:
        predicted_gib = predict(config, workers=workers).allocated_gib
    available_gib = available_memory(device) / GIB
    if predicted_gib > available_gib:
        raise out_of_memory_error(config, workers=workers, available_gib=available_gib)
    return predicted_gib


@contextmanager
def reraise_oom(config: Config, *, workers: int, measured_gib: Callable[[], float | None]) -> Iterator[None]:
    """Turn the many ways in which a block can run out of memory into one error of one line.

    Args:
        config: the run's configuration, with its working shape.
        workers: number of workers that share the batch.
        measured_gib: called when it happens; returns the run's measured peak, or None without one.

    Raises:
        OutOfMemory: the block ran out of memory.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory_error(config, measured_gib=measured_gib(), workers=workers) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the GPU's or the main memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _CPU_ALLOCATOR)


def out_of_memory_error(
    config: Config, *, workers: int, measured_gib: float | None = None, available_gib: float | None = None
) -> OutOfMemory:
    """The error that names the predicted peak, the measured one or what is available, and the best remedy.

    The remedy is the change of one setting that is predicted to save most.
    """
    now = predict(config, workers=workers).allocated
    best = best_memory_saving(config, workers=workers)
    if best is None:
        remedy = "use a larger machine or a smaller network"
    else:
        remedy = f"use {best.option}, which is predicted to take {best.gib:.3g} GiB"
    measured = "" if measured_gib is None else f" (measured: {measured_gib:.3g} GiB)"
    return OutOfMemory(
        f"out of memory: a training step of {config.model.name}",
        expected=None if available_gib is None else f"at most {available_gib:.3g} GiB a worker",
        found=f"a predicted peak of {now / GIB:.3g} GiB{measured} a worker",
        remedy=remedy,
    )


class MemorySaving(NamedTuple):
    """A change of one setting that saves memory."""

    option: str
    """As it is written on a command line."""
    gib: float
    """The predicted peak with it."""


def best_memory_saving(config: Config, *, workers: int) -> MemorySaving | None:
    """The change of one setting that is predicted to save most; None where none saves any."""
    now = predict(config, workers=workers).allocated
    peaks = {
        option: predict(config.replace(values), workers=workers).allocated
        for option, values in memory_saving_options(config, workers=workers).items()
    }
    best = min(peaks, key=lambda option: peaks[option], default=None)
    return None if best is None or peaks[best] >= now else MemorySaving(best, peaks[best] / GIB)


def memory_saving_options(config: Config, *, workers: int) -> dict[str, dict[str, Any]]:
    """Changes of one setting that save memory: from how they are written on a command line to their values
    by dotted path."""
    model, training = config.model, config.training
    options: dict[str, dict[str, Any]] = {}
    if training.batch_size // 2 >= max(workers, training.accumulation_steps):
        options[f"--training.batch-size {training.batch_size // 2}"] = {
            "training.batch_size": training.batch_size // 2
        }
    if training.precision == "float32":
        options["--training.precision bf16"] = {"training.precision": "bf16"}
    points = config.sampling.points // 2
    if isinstance(model, OccupancyConfig) and points:
        options[f"--sampling.points {points}"] = {"sampling.points": points}
    for name, value in model.memory_savings().items():
        path = f"model.{name}"
        options[f"--{path.replace('_', '-')}{_argument(value)}"] = {path: value}
    return options


def _argument(value: object) -> str:
    """A value as it follows its option."""
    if value is True:
        return ""
    return f" {' '.join(map(str, value)) if isinstance(value, tuple) else value}"
