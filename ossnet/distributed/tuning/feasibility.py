"""What of a search space fits the memory budget: an estimate, and a screen that finds it where it is rare.

Letters: M candidates, N points that have started.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from optuna.trial import FixedTrial, FrozenTrial

from ossnet.config import Config
from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.search_space import Sample, Space, points_near, sample_points
from ossnet.errors import UserError
from ossnet.metric_names import INFERENCE_MEMORY, PREDICTED
from ossnet.planning.configure.planner import Planner
from ossnet.planning.oom import best_memory_saving
from ossnet.planning.surrogate import PeakSurrogate, features, matrix

logger = logging.getLogger(__name__)

_LONGEST_S = 4.0  # what exact predictions for the estimate may take
_EXAMINED = 64  # random configurations that are predicted exactly in that time at most
_ENOUGH = 6  # exact predictions to estimate others from
_CANDIDATES = 2048  # random ones
_NEAR = 256  # candidates near what is known to fit, or else near the smallest
_CENTERS = 8  # of those
_LIKELY = 1.0  # standard deviations that a candidate is expected to stay below the limit by
_SURE = 4.0  # standard deviations that count as certainty
_FEW_IN_VAIN = 8  # likeliest candidates in a row that are too large: ends where all others are sure to be
_MANY_IN_VAIN = 64  # ends

Params = Mapping[str, Any]
Key = frozenset[tuple[str, Any]]


@dataclass(frozen=True)
class FeasibilityEstimate:
    """The part of a space that fits a budget, by random samples."""

    sampled: int
    """Configurations whose peaks were estimated from the predicted ones."""
    fraction: float
    """The fraction of them that fits."""
    smallest_gib: float
    largest_gib: float
    """The largest and smallest predicted peak."""
    phase: str = "training"
    """What the peaks are of: training or inference."""

    def __str__(self) -> str:
        fraction = f"{self.fraction:.0%}" if self.fraction >= 0.02 else f"{self.fraction:.1%}"
        return (
            f"about {fraction} of the space fits{' in inference' * (self.phase == 'inference')} "
            f"({self.sampled} random configurations; "
            f"predicted {self.smallest_gib:.3g} to {self.largest_gib:.3g} GiB)"
        )


def estimate_feasibility(
    space: Space,
    planner: Planner,
    budget_gib: float,
    *,
    inference: Callable[[Config], float] | None = None,
) -> FeasibilityEstimate:
    """Predict the peaks of a space's own points and of random ones for some seconds, and estimate many more.

    Where none fits, those that are likeliest to are predicted too, until one does.

    Args:
        inference: predicts the peak of predicting a case in GiB, where the budget is of that.

    Raises:
        UserError: nothing fits; names the budget that would do and the change that would help most.
    """
    planner = replace(planner, budget_gib=budget_gib) if inference is None else planner
    screen = Screen(space, seed=0)

    def examine(sample: Sample) -> None:
        resolved = planner.resolve(changes=sample[1])
        peak_gib = resolved.peak_gib if inference is None else inference(resolved.config)
        assert peak_gib is not None
        screen.add(sample, peak_gib)

    start_s = time.monotonic()
    for number, sample in enumerate(sample_points(space, count=_EXAMINED, with_first=True)):
        if number >= _ENOUGH and time.monotonic() - start_s > _LONGEST_S:
            break
        examine(sample)
    while (smallest := min(screen.examined, key=lambda each: each.gib)).gib > budget_gib:
        candidate = screen.propose(budget_gib, tried=[each.sample[0] for each in screen.examined], started=[])
        if candidate is None:
            raise _nothing_fits(space, planner, smallest, budget_gib, inference=inference is not None)
        examine(candidate)
    return FeasibilityEstimate(
        sampled=len(screen.random),
        fraction=screen.fraction(budget_gib),
        smallest_gib=smallest.gib,
        largest_gib=max(each.gib for each in screen.examined),
        phase="training" if inference is None else "inference",
    )


def log_feasibility(
    space: Space, planner: Planner, optimization: OptimizationConfig, inference: Callable[[Config], float]
) -> None:
    """Log how much of a space fits each budget.

    Args:
        inference: predicts the peak of predicting a case, in GiB.

    Raises:
        UserError: nothing fits one of them.
    """
    budget_gib, inference_gib = optimization.budget_gib, optimization.inference_budget_gib
    if budget_gib is not None:
        logger.info(str(estimate_feasibility(space, planner, budget_gib)))
    if inference_gib is not None:
        logger.info(str(estimate_feasibility(space, planner, inference_gib, inference=inference)))


def _nothing_fits(
    space: Space, planner: Planner, smallest: "Examined", budget_gib: float, *, inference: bool
) -> UserError:
    config = planner.resolve(changes=smallest.sample[1]).config
    saving = None if inference else best_memory_saving(config, workers=planner.workers)
    change = "widen the space"
    if saving is not None:
        change = f"give {saving.option}, with which it takes {saving.gib:.3g} GiB"
    return UserError(
        space.path.name,
        expected=f"configurations that fit {budget_gib:.3g} GiB{' in inference' * inference}",
        found=f"none, the smallest ({config.model.name}) is predicted at {smallest.gib:.3g} GiB",
        remedy=f"raise --{'inference' if inference else 'memory'}-budget to that, or {change}",
    )


class Examined(NamedTuple):
    """A point of a space whose peak was predicted exactly."""

    gib: float
    sample: Sample


class Screen:
    """Learns the exact predictions of a space's peaks, and finds from them what else is likely to fit.

    Args:
        inference_weight: the ratio of the limits of both peaks, where inference has one: its peak times this
            is compared with that of training, and the larger one counts.
    """

    def __init__(self, space: Space, seed: int, *, inference_weight: float = 0.0) -> None:
        self._space, self._seed, self._inference_weight = space, seed, inference_weight
        self._surrogate = PeakSurrogate()
        self._near: list[Sample] = []
        self._trials = set[int]()
        self._in_vain = 0
        self.examined: list[Examined] = []

    @property
    def random(self) -> tuple[Sample, ...]:
        """Different random points, always the same."""
        return _random_points(self._space, self._seed)

    @property
    def is_ready(self) -> bool:
        """Whether enough is known to propose anything."""
        return len(self.examined) >= _ENOUGH

    def add(self, sample: Sample, gib: float) -> None:
        """Learn an exact prediction."""
        self._surrogate.add(sample[1], gib)
        self.examined.append(Examined(gib, sample))

    def learn(self, trials: Iterable[FrozenTrial]) -> None:
        """Learn the exact predictions of a study's trials, each once."""
        for trial in trials:
            training, inference = (trial.user_attrs.get(each, 0.0) for each in (PREDICTED, INFERENCE_MEMORY))
            peak_gib = max(training, self._inference_weight * inference)
            if trial.number not in self._trials and peak_gib > 0:
                self._trials.add(trial.number)
                changes = self._space(FixedTrial(trial.params))
                self.add((trial.params, changes), peak_gib)

    def fraction(self, limit_gib: float) -> float:
        """The fraction of the random points that fits, by what is known of them or else by estimates."""
        if not self.is_ready:
            return float(np.mean([each.gib <= limit_gib for each in self.examined]))
        return float(np.mean(self._margin(self.random, limit_gib) >= 0))

    def propose(
        self, limit_gib: float, *, tried: Sequence[Params], started: Sequence[Params]
    ) -> Sample | None:
        """A candidate that is likely to fit, as different as can be from what has started.

        Where none is likely to fit, the likeliest one. None where too little is known or nothing is left: all
        was tried, or several of the likeliest in a row were too large and all others are sure to be, or many
        in a row were.
        """
        if not self.is_ready:
            return None
        known = {_key(params) for params in tried}
        self._in_vain = 0 if self.examined[-1].gib <= limit_gib else self._in_vain + 1
        candidates, margin = self._candidates(known, limit_gib)
        if not np.any(margin > _LIKELY):
            self._near = self._draw_near(limit_gib, seed=self._seed + len(tried))
            candidates, margin = self._candidates(known, limit_gib)
        hopeless = self._in_vain > _FEW_IN_VAIN and not np.any(margin > -_SURE)
        if not candidates or hopeless or self._in_vain > _MANY_IN_VAIN:
            return None
        likely = np.flatnonzero(margin > _LIKELY)
        if not len(likely):
            return candidates[int(np.argmax(margin))]
        apart = _distances([candidates[place][0] for place in likely], started)
        return candidates[int(likely[np.argmax(apart)])]

    def _candidates(self, known: set[Key], limit_gib: float) -> tuple[list[Sample], Float[np.ndarray, "M"]]:
        """What was not tried, and by how much each is expected to stay below the limit."""
        candidates = [each for each in [*self.random, *self._near] if _key(each[0]) not in known]
        return candidates, self._margin(candidates, limit_gib)

    def _margin(self, samples: Sequence[Sample], limit_gib: float) -> Float[np.ndarray, "M"]:
        return self._surrogate.estimate([changes for _, changes in samples]).margin(limit_gib)

    def _draw_near(self, limit_gib: float, seed: int) -> list[Sample]:
        """Points near some that fit, or else near the smallest."""
        fitting = [each for each in self.examined if each.gib <= limit_gib]
        centers = fitting[-_CENTERS:] or sorted(self.examined, key=lambda each: each.gib)[:_CENTERS]
        count = _NEAR // len(centers)
        near = (points_near(self._space, each.sample[0], count=count, seed=seed) for each in centers)
        return list(chain.from_iterable(near))


@lru_cache(maxsize=4)  # drawing takes seconds, and the estimate before a study draws the same as its search
def _random_points(space: Space, seed: int) -> tuple[Sample, ...]:
    drawn = sample_points(space, count=_CANDIDATES, seed=seed)
    return tuple({_key(sample[0]): sample for sample in drawn}.values())


def _key(params: Params) -> Key:
    """Parameters as something to look up."""
    return frozenset(params.items())


def _distances(points: Sequence[Params], others: Sequence[Params]) -> Float[np.ndarray, "M"]:
    """How far each of some points is from the nearest of others: mean over what they decide, each 0 to 1."""
    if not others:
        return np.zeros(len(points))
    given = [features(each) for each in [*points, *others]]
    rows = matrix(given, sorted({name for row in given for name in row}))
    rows /= np.maximum(np.ptp(rows, axis=0), 1e-12)
    own, foreign = rows[: len(points)], rows[len(points) :]
    nearest: Float[np.ndarray, M] = np.min([np.abs(own - each).mean(1) for each in foreign], axis=0)
    return nearest
