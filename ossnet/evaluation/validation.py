"""Validation of a network that is being trained: scores on full volumes, and pictures of the best so far.

Letters: X Y Z voxel axes in nibabel's order.
"""

import io
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median

import numpy as np
import torch
from jaxtyping import UInt8
from torch import nn

from ossnet.data import StoredCase, Task
from ossnet.data.store.lost_cases import ReadableCases
from ossnet.evaluation.cases import CaseScore, score_cases
from ossnet.evaluation.summary import summarize
from ossnet.inference import InferenceConfig
from ossnet.metric_names import CASE_MEDIAN, CASE_TIME, VAL_DICE, VALIDATED_CASES
from ossnet.output.views.slices import Plane, planes_through, sheet
from ossnet.sampling import SamplingConfig
from ossnet.training.clock import Until
from ossnet.training.collectives import all_gather, errors_on_all, rank, world_size

_DRAWN = 3  # cases
_EDGE = 256  # pixels of a plane
_TINT = 0.4

Pictures = Mapping[str, bytes]
"""PNG by case: slices with the label above, the same ones with the prediction below."""


@dataclass
class BestPictures:
    """Draws the first cases of every validation with a higher Dice than those before."""

    task: Task
    log: Callable[[Pictures], None]
    best: float = -math.inf
    """The highest Dice so far."""
    _planes: dict[str, tuple[StoredCase, tuple[Plane, ...], tuple[Plane, ...]]] = field(default_factory=dict)

    def add(self, stored: StoredCase, codes: UInt8[np.ndarray, "X Y Z"]) -> None:
        """Keep the slices of a case; of no more than three cases."""
        if len(self._planes) >= _DRAWN:
            return
        image = stored.channel(0)
        label = self.task.display_class(self.task.codes(stored.label))
        labeled = planes_through(image, label)
        predicted = planes_through(image, self.task.display_class(codes), like=label)
        self._planes[stored.id] = stored, labeled, predicted

    def finish(self, dice: float | None) -> None:
        """Draw what was kept, if this validation is the best, and forget it."""
        planes, self._planes = self._planes, {}
        if planes and dice is not None and dice > self.best:
            self.best = dice
            self.log({case: self._draw(*each) for case, each in planes.items()})

    def _draw(self, stored: StoredCase, *rows: tuple[Plane, ...]) -> bytes:
        from PIL import Image

        values = range(1, self.task.classes + 1)
        drawn = [sheet(row, values=values, spacing=stored.spacing, edge=_EDGE, tint=_TINT) for row in rows]
        buffer = io.BytesIO()
        Image.fromarray(np.concatenate(drawn)).save(buffer, "PNG")
        return buffer.getvalue()


@dataclass(frozen=True)
class Validation:
    """Dice, IoU and times of a case on full volumes of the working grid, shared among the ranks.

    A case that time did not allow counts as it was scored last, so that a short validation compares with a
    whole one.
    """

    network: nn.Module
    task: Task
    cases: ReadableCases
    sampling: SamplingConfig
    settings: InferenceConfig
    device: torch.device
    now: Callable[[], float] = time.monotonic
    """The clock of the run's time, in seconds."""
    pictures: BestPictures | None = None
    """What draws the best validation; on rank 0 only."""
    _latest: dict[str, CaseScore] = field(default_factory=dict)
    """Each case's last score, on every rank."""

    @property
    def shared(self) -> tuple[str, ...]:
        """The cases of this rank."""
        return self.cases.ids[rank() :: world_size()]

    def __call__(self, until: Until | None, count: int | None) -> dict[str, float]:
        """Score the cases; a call of every rank.

        Args:
            until: how long it may last; None: until all are scored.
            count: the largest number of cases for each rank; None: all.

        Returns:
            Nothing where no case was scored.
        """
        if not self.cases.ids:
            return {}
        began, pictures = self.now(), self.pictures if count is None else None
        scores: list[CaseScore] = []
        with errors_on_all(self.device):
            scores = score_cases(
                self.network,
                self.task,
                self.cases.each(self.shared[:count]),
                sampling=self.sampling,
                settings=self.settings,
                last_until=math.inf if until is None else until.last,
                first_until=math.inf if until is None else until.first,
                now=self.now,
                scored=None if pictures is None else pictures.add,
            )
        took = (self.now() - began) / max(len(scores), 1)
        every = all_gather(scores)
        metrics = {}
        if every:
            times = median(each.predicted_s for each in every if each.predicted_s is not None)
            metrics = {CASE_TIME: took, CASE_MEDIAN: times, VALIDATED_CASES: float(len(every))}
            metrics |= summarize(every if count is not None else self._with_earlier(every))
        if pictures is not None:
            pictures.finish(metrics.get(VAL_DICE))
        return metrics

    def _with_earlier(self, scores: list[CaseScore]) -> list[CaseScore]:
        self._latest.update({each.case: each for each in scores})
        return [self._latest[case] for case in self.cases.ids if case in self._latest]
