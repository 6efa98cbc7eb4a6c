"""Which case is drawn at which step: the one order of a run, however many workers share it."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ossnet.errors import UserError


class Reference(NamedTuple):
    """One draw from one case; together with the run's seed it decides every random number of that draw."""

    epoch: int
    """Counted from 0."""
    step: int
    """Optimiser step of the whole run, counted from 0."""
    case: str


def steps_per_epoch(cases: int, batch_size: int) -> int:
    """Whole batches in an epoch; the remainder is dropped, another one each epoch."""
    return cases // batch_size


def check_batch(cases: int, batch_size: int, world: int) -> None:
    """Refuse what would leave a worker or an epoch without data.

    Raises:
        UserError: the batch is larger than the training split, or does not divide among the workers.
    """
    if batch_size > cases:
        msg = f"training.batch_size {batch_size} is more than the {cases} training cases: lower it"
        raise UserError(msg)
    if batch_size % world:
        msg = f"training.batch_size {batch_size} does not divide among {world} workers: make it a multiple"
        raise UserError(msg)


def training_order(
    cases: Sequence[str], *, epochs: int, batch_size: int, seed: int, rank: int = 0, world: int = 1
) -> Iterator[list[Reference]]:
    """This worker's share of every global batch, a list a step.

    Each epoch is a new permutation of the cases. The global batch of a step depends on the seed only, so
    that any number of workers train on the same data.
    """
    check_batch(len(cases), batch_size, world)
    steps = steps_per_epoch(len(cases), batch_size)
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(cases))
        for step in range(steps):
            batch = order[step * batch_size : (step + 1) * batch_size]
            yield [Reference(epoch, epoch * steps + step, cases[index]) for index in batch[rank::world]]
