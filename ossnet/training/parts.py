"""A step's batch in the parts in which it passes through the network, each made when it is needed."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from ossnet.sampling.batch import Batch
from ossnet.training.collectives import errors_on_all


@dataclass
class BatchParts:
    """The parts of the batches of some steps, one step after another, and what is known of them so far."""

    batches: Iterator[Batch]
    """The parts of all steps, in order."""
    volumes: int
    """Volumes of a step on this rank."""
    device: torch.device
    waits_s: list[float] = field(default_factory=list)
    """Seconds that each part was waited for."""
    points: int = 0
    """Predictions of all parts."""
    cases: tuple[str, ...] = ()
    """Cases of the step."""
    _first: list[Batch] = field(default_factory=list)

    def begin_step(self) -> Batch:
        """Fetch the first part of the next step."""
        self.cases = ()
        self._first = [self._next()]
        return self._first[0]

    @property
    def first(self) -> Batch:
        """The step's first part, before it is trained on."""
        return self._first[0]

    def of_step(self) -> Iterator[Batch]:
        """The parts of the step, none of which is held here once it was given."""
        yield self._first.pop()
        while len(self.cases) < self.volumes:
            yield self._next()

    def _next(self) -> Batch:
        with errors_on_all(self.device):
            began = time.monotonic()
            batch = next(self.batches)
            self.waits_s.append(time.monotonic() - began)
        self.points += batch.n_predictions
        self.cases += batch.cases
        return batch
