"""What of a search space fits the memory budget: an estimate, and a screen that finds it where it is rare."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import exp
from typing import Any

import numpy as np
from jaxtyping import Float
from optuna.trial import FixedTrial, FrozenTrial

from ossnet.config import Config
from ossnet.distributed.tuning.search_space import Sample, Space, sample_points
from ossnet.errors import UserError
from ossnet.metric_names import PREDICTED
from ossnet.planning.configure.planner import Planner
from ossnet.planning.oom import best_memory_saving
from ossnet.planning.surrogate import FEWEST, PeakSurrogate

_LONGEST_S = 10.0  # what exact predictions for the estimate may take
_FEWEST = 8
_CANDIDATES = 2048
_SUGGESTIONS_A_POOL = 8  # then others are drawn
_LIKELY = 1.0  # standard deviations that a candidate is expected to stay below the limit by
_SEARCHED = 24  # the candidates with the smallest estimates that are predicted before a space counts as empty


@dataclass(frozen=True)
class FeasibilityEstimate:
    """The part of a space that fits a budget, by random samples."""

    sampled: int
    """Configurations whose peaks were predicted, or estimated from the predicted ones."""
    fraction: float
    """The fraction of them that fits."""
    smallest_gib: float
    largest_gib: float
    """The largest and smallest predicted peak."""

    def __str__(self) -> str:
        fraction = f"{self.fraction:.0%}" if self.fraction >= 0.02 else f"{self.fraction:.1%}"
        return (
            f"about {fraction} of the space fits ({self.sampled} random configurations; "
            f"predicted {self.smallest_gib:.3g} to {self.largest_gib:.3g} GiB)"
        )


def estimate_feasibility(space: Space, planner: Planner, budget_gib: float) -> FeasibilityEstimate:
    """Predict the peaks of random configurations for some seconds, and estimate those of many more from them.

    Where none fits, those with the smallest estimates are predicted too, again and again.

    Raises:
        UserError: nothing fits; names the budget that would do and the change that would help most.
    """
    planner = replace(planner, budget_gib=budget_gib)
    pool = list(sample_points(space, count=_CANDIDATES))
    surrogate, peaks = PeakSurrogate(), dict[int, float]()
    start_s = time.monotonic()

    def examine(place: int) -> float:
        if place not in peaks:
            changes = pool[place][1]
            resolved = planner.resolve(changes=changes)
            assert resolved.peak_gib is not None
            peaks[place] = resolved.peak_gib
            surrogate.add(changes, peaks[place])
        return peaks[place]

    for place in range(min(len(pool), 64)):
        examine(place)
        if time.monotonic() - start_s > _LONGEST_S and len(peaks) >= _FEWEST:
            break
    changes = [each for _, each in pool]
    for _ in range(_SEARCHED):
        if len(surrogate) < FEWEST or min(peaks.values()) <= budget_gib:
            break
        order = np.argsort(surrogate.estimate(changes).center, kind="stable")
        left = next((int(place) for place in order if int(place) not in peaks), None)
        if left is None:
            break
        examine(left)
    smallest = min(peaks, key=lambda place: peaks[place])
    if peaks[smallest] > budget_gib:
        raise _nothing_fits(
            space, planner.resolve(changes=changes[smallest]).config, peaks[smallest], budget_gib
        )
    known = {place: float(gib <= budget_gib) for place, gib in peaks.items()}
    fraction = float(np.mean(list(islice(known.values(), _FEWEST * 8))))
    sampled = len(peaks)
    if len(surrogate) >= FEWEST:
        fits = np.asarray(surrogate.estimate(changes).margin(budget_gib) >= 0, dtype=float)
        fits[list(known)] = list(known.values())
        fraction, sampled = float(fits.mean()), len(fits)
    return FeasibilityEstimate(sampled, fraction, peaks[smallest], max(peaks.values()))


def _nothing_fits(space: Space, config: Config, smallest_gib: float, budget_gib: float) -> UserError:
    saving = best_memory_saving(config, workers=1)
    change = "widen the space"
    if saving is not None:
        change = f"give {saving.option}, with which it takes {saving.gib:.3g} GiB"
    return UserError(
        space.path.name,
        expected=f"configurations that fit {budget_gib:.3g} GiB",
        found=f"none, the smallest ({config.model.name}) is predicted at {smallest_gib:.3g} GiB",
        remedy=f"raise --memory-budget to that, or {change}",
    )


class Screen:
    """Knows a study's exact predictions, and from them what else is likely to fit, or sure not to."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed = space, seed
        self._surrogate = PeakSurrogate()
        self._learned = set[int]()
        self._pool: tuple[int, list[Sample]] = -1, []

    def learn(self, trials: Iterable[FrozenTrial]) -> None:
        """Learn the exact predictions of a study's trials, each once."""
        for trial in trials:
            if trial.number not in self._learned and PREDICTED in trial.user_attrs:
                self._learned.add(trial.number)
                self._surrogate.add(self._space(FixedTrial(trial.params)), trial.user_attrs[PREDICTED])

    def propose(self, limit_gib: float, trials: Sequence[FrozenTrial]) -> dict[str, Any] | None:
        """The parameters of a candidate that is likely to fit, far from all that was tried.

        Where none is likely to fit, the most likely one. None while too little is known, or all were tried.
        """
        if len(self._surrogate) < FEWEST:
            return None
        tried = [trial.params for trial in trials]
        number = len(trials) // _SUGGESTIONS_A_POOL
        if self._pool[0] != number:
            seed = self._seed * 1009 + number + 1
            self._pool = number, list(sample_points(self._space, count=_CANDIDATES, seed=seed))
        pool = [each for each in self._pool[1] if each[0] not in tried]
        if not pool:
            return None
        margin = self._surrogate.estimate([changes for _, changes in pool]).margin(limit_gib)
        likely = np.flatnonzero(margin > _LIKELY)
        if not len(likely):
            return pool[int(np.argmax(margin))][0]
        started = [trial.params for trial in trials if trial.user_attrs.get(PREDICTED, np.inf) <= limit_gib]
        apart = _distances([pool[place][0] for place in likely], started)
        return pool[int(likely[np.argmax(apart)])][0]

    def impossible_gib(self, changes: Mapping[str, Any], limit_gib: float) -> float | None:
        """The estimated peak of what is sure to pass a limit; None for what may fit."""
        if len(self._surrogate) < FEWEST:
            return None
        estimates = self._surrogate.estimate([changes])
        return exp(estimates.center[0]) if estimates.cannot_fit(limit_gib)[0] else None


def _distances(
    points: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]
) -> Float[np.ndarray, "M"]:
    """How far each of some points is from the nearest of others: mean over parameters, each from 0 to 1."""
    if not others:
        return np.zeros(len(points))
    names = sorted({name for point in [*points, *others] for name in point})
    total = np.zeros((len(points), len(others)))
    for name in names:
        own, foreign = ([point.get(name) for point in given] for given in (points, others))
        numbers = [float(value) for value in [*own, *foreign] if isinstance(value, int | float)]
        span = max(numbers, default=0.0) - min(numbers, default=0.0)
        for place, value in enumerate(own):
            total[place] += [_difference(value, other, span) for other in foreign]
    nearest: Float[np.ndarray, M] = total.min(1) / max(len(names), 1)
    return nearest


def _difference(one: Any, other: Any, span: float) -> float:
    if isinstance(one, int | float) and isinstance(other, int | float) and span:
        return abs(one - other) / span
    return float(one != other)
