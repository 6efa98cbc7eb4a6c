"""How a run's volumes reach its device, chosen by measuring: read for each step, kept, or used again."""

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from math import ceil

import torch

from ossnet.memory.peak import GIB
from ossnet.sampling.batch import Batch
from ossnet.sampling.batches import BatchMaker
from ossnet.sampling.loader import ReadCase, StagingPool, load_volumes
from ossnet.sampling.sampler import SampleKey
from ossnet.sampling.volume import Volume
from ossnet.training import TrainingConfig

MOST_STEPS = 8
"""Successive steps on the same volumes that are chosen, at most: they are less and less worth."""
_MARGIN = 1.2  # reading may become slower than it was measured
_WARM_UP = 2  # batches whose memory is pinned, and steps that make the optimizer's state
_TIMED = 4
_CACHE_STEP = 0.01  # GiB


@dataclass(frozen=True)
class InputRates:
    """Measured seconds of both sides of a run's input."""

    host_s: float
    """Seconds of a volume to be read, with all loader threads."""
    step_s: float
    """Seconds of an optimizer step."""


@dataclass(frozen=True)
class DataPath:
    """What is chosen for a run, with the reason in words."""

    steps_per_batch: int
    device_cache_gib: float
    reason: str

    def __str__(self) -> str:
        return (
            f"training.steps_per_batch {self.steps_per_batch}, "
            f"training.device_cache_gib {self.device_cache_gib:g}: {self.reason}"
        )

    def changes(self) -> dict[str, int | float]:
        """The values by dotted path."""
        return {
            "training.steps_per_batch": self.steps_per_batch,
            "training.device_cache_gib": self.device_cache_gib,
        }


def choose_data_path(
    rates: InputRates, training: TrainingConfig, *, volumes: int, store_bytes: int, free_bytes: float
) -> DataPath:
    """Choose so that the device need not wait, and change no value that is given.

    Volumes that are read faster than the steps take are read for each step. Else they stay on the device
    where all of them fit; else several steps take the same volumes, unless a step takes them in parts.

    Args:
        volumes: of one worker's step, or of the part of it that was measured.
        store_bytes: of all training volumes.
        free_bytes: of the device, beside what a step and a prediction take.
    """
    given_steps, given_cache = training.steps_per_batch, training.device_cache_gib
    read_again = 1 - min((given_cache or 0.0) * GIB / max(store_bytes, 1), 1.0)
    batch_s = volumes * rates.host_s * read_again
    steps, cache = given_steps or 1, given_cache or 0.0
    measured = f"a batch is read in {batch_s:.3g} s and a step takes {rates.step_s:.3g} s"
    if _MARGIN * batch_s <= steps * rates.step_s:
        return DataPath(steps, cache, f"{measured}, so the device need not wait")
    if given_cache is None and store_bytes <= free_bytes:
        cache = ceil(store_bytes / GIB / _CACHE_STEP) * _CACHE_STEP
        fitting = f"the {store_bytes / GIB:.3g} GiB of all volumes fit into {free_bytes / GIB:.3g} GiB"
        return DataPath(steps, round(cache, 2), f"{measured}, and {fitting} of the device")
    if given_steps is None and training.accumulation_steps == 1:
        steps = min(ceil(_MARGIN * batch_s / rates.step_s), MOST_STEPS)
    if _MARGIN * batch_s <= steps * rates.step_s * (1 + 1e-9):
        return DataPath(steps, cache, f"{measured}, so {steps} steps take the same volumes")
    waits = max(1 - steps * rates.step_s / batch_s, 0.0)
    return DataPath(steps, cache, f"{measured}; the device will wait for about {waits:.0%} of the time")


def measure_rates(
    batches: Iterable[list[SampleKey]],
    read: ReadCase,
    make: BatchMaker,
    step: Callable[[Batch], object],
    *,
    threads: int,
    device: torch.device,
) -> InputRates:
    """Measure both sides on the first batches of a run, one after the other.

    Args:
        batches: of which some first ones are read.
        make: makes a batch on the device.
        step: takes an optimizer step, or its part of one, on the device; called several times on one batch.
    """
    keys = list(islice(batches, _WARM_UP + _TIMED))
    warm = min(_WARM_UP, len(keys) - 1)
    staging = StagingPool(pinned=device.type == "cuda")
    volumes: list[Volume] = []
    count, began = 0, time.perf_counter()
    with closing(load_volumes(keys, read, threads=threads, staging=staging, ahead_bytes=1)) as loaded:
        for index, volumes in enumerate(loaded):
            if index < warm:
                began = time.perf_counter()
            else:
                count += len(volumes)
    host_s = (time.perf_counter() - began) / count
    batch = make(volumes)
    for _ in range(_WARM_UP):
        step(batch)
    _finish(device)
    began = time.perf_counter()
    for _ in range(_TIMED):
        step(batch)
    _finish(device)
    return InputRates(host_s, (time.perf_counter() - began) / _TIMED)


def _finish(device: torch.device) -> None:
    """Wait for what a GPU has still to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
