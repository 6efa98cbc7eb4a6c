"""The order in which cases are drawn: the same for a run, however many workers share it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from typing import NamedTuple

import numpy as np

from ossnet.errors import UserError


class SampleKey(NamedTuple):
    """A draw from a case; together with the run's seed it decides every random number of that draw."""

    epoch: int
    """Counted from 0."""
    step: int
    """Optimizer step of the whole run, counted from 0."""
    case: str
    instead_of: str = ""
    """The case whose place it takes, as that cannot be read."""


def first_step(epoch: int, *, cases: int, batch_size: int, steps_per_batch: int = 1) -> int:
    """The step at which all cases of the epochs before have been drawn.

    A batch that an epoch's cases do not fill is filled from the next epoch, so that every epoch sees every
    case, and every step the same number.
    """
    return -(-epoch * cases // batch_size) * steps_per_batch


def check_batch(cases: int, batch_size: int, world_size: int) -> None:
    """Reject a batch size that would leave a worker or an epoch without data.

    Raises:
        UserError: the batch is larger than the training split, or smaller than the number of workers.
    """
    if batch_size > cases:
        raise UserError(
            "training.batch_size",
            expected=f"at most the {cases} training cases",
            found=str(batch_size),
            remedy="lower it",
        )
    if batch_size < world_size:
        raise UserError(
            "training.batch_size",
            expected=f"a volume for each of the {world_size} workers",
            found=str(batch_size),
            remedy="raise it, or give fewer workers",
        )


def volumes_of(rank: int, *, batch_size: int, world_size: int) -> int:
    """Volumes of a worker's share of each batch: where they do not divide, the first have one more."""
    return -(-(batch_size - rank) // world_size)


def parts_of_share(accumulation_steps: int, *, batch_size: int, world_size: int) -> int:
    """The parts in which each worker's share of a batch passes through the network.

    They are as many on every worker, as all exchange batch statistics in each.
    """
    return min(accumulation_steps, max(batch_size // world_size, 1))


def largest_part(accumulation_steps: int, *, batch_size: int, world_size: int) -> int:
    """Volumes of the largest of these parts."""
    parts = parts_of_share(accumulation_steps, batch_size=batch_size, world_size=world_size)
    return -(-volumes_of(0, batch_size=batch_size, world_size=world_size) // parts)


def batch_order(
    cases: Sequence[str],
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    steps_per_batch: int = 1,
    sizes: Mapping[str, int] | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[list[SampleKey]]:
    """Iterate over this worker's part of every global batch, a list for each step.

    Each epoch is a new permutation of the cases. The global batch of a step depends on the seed only, so
    that any number of workers train on the same data.

    Args:
        steps_per_batch: successive steps on the same cases.
        sizes: bytes of each case; the workers' shares of a batch, and of a run, are then about as large.
    """
    check_batch(len(cases), batch_size, world_size)
    drawn = _without_end(len(cases), batch_size, seed)
    for visit in range(first_step(epochs, cases=len(cases), batch_size=batch_size)):
        batch = [(epoch, cases[index]) for epoch, index in islice(drawn, batch_size)]
        if sizes is not None:
            # Largest first, then largest last: what one rank has more in one step it has less in the next.
            batch.sort(key=lambda each: sizes[each[1]], reverse=visit % 2 == 0)
        for draw in range(steps_per_batch):
            step = visit * steps_per_batch + draw
            yield [SampleKey(epoch, step, case) for epoch, case in batch[rank::world_size]]


def repeat_steps(steps: Iterable[list[SampleKey]], times: int) -> Iterator[list[SampleKey]]:
    """Each of a run's steps as several steps on the same cases, numbered anew."""
    for keys in steps:
        for draw in range(times):
            yield [key._replace(step=key.step * times + draw) for key in keys]


def split_batches(steps: Iterable[list[SampleKey]], parts: int) -> Iterator[list[SampleKey]]:
    """The keys of each step in so many parts of about the same size, larger ones first; at most one a case.

    What is drawn from a case depends on its key alone, so it is the same in whatever part.
    """
    for step in steps:
        pieces = min(parts, len(step))
        ends = [-(-len(step) * (piece + 1) // pieces) for piece in range(pieces)]
        yield from (step[begin:end] for begin, end in pairwise([0, *ends]))


def _without_end(cases: int, batch_size: int, seed: int) -> Iterator[tuple[int, int]]:
    """Epoch and index of case after case; no batch holds a case twice where there are cases enough."""
    epoch, begun = 0, np.empty(0, int)
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(cases)
        again = np.isin(order, begun)
        order = np.concatenate([order[~again], order[again]])
        yield from ((epoch, int(index)) for index in order)
        epoch += 1
        begun = order[cases - epoch * cases % batch_size :]
