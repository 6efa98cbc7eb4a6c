"""Confidence intervals of a mean over cases and over seeds."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 10_000
_VALUES_AT_ONCE = 1 << 22  # of resamples in memory


@dataclass(frozen=True)
class ConfidenceInterval:
    """The bounds that a true mean lies between with 95 % confidence."""

    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the distance between the bounds."""
        return (self.high - self.low) / 2


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> ConfidenceInterval:
    """The interval of the mean over cases, whatever their distribution: a bootstrap, BCa where it is defined.

    Equal values, and one alone, have an interval of no width. Source: Efron, "Better Bootstrap Confidence
    Intervals", JASA 1987, as `scipy.stats.bootstrap` has it.

    Args:
        values: one for each case.
        seed: of the 10,000 resamples.

    Raises:
        ValueError: there is no value.
    """
    if not values:
        msg = "expected the values of one case at least"
        raise ValueError(msg)
    mean = fmean(values)
    if min(values) == max(values):
        return ConfidenceInterval(mean, mean)
    found = _bootstrap(values, "BCa", seed)
    if not np.isfinite([found.low, found.high]).all():  # all but equal values: the acceleration is 0 / 0
        found = _bootstrap(values, "percentile", seed)
    return ConfidenceInterval(min(found.low, mean), max(found.high, mean))


def student_interval(values: Sequence[float]) -> ConfidenceInterval | None:
    """The interval of the mean of few values thought to be normal, as over seeds; None of fewer than two."""
    if len(values) < 2:
        return None
    from scipy.stats import sem, t

    half_width = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * sem(values))
    mean = fmean(values)
    return ConfidenceInterval(mean - half_width, mean + half_width)


def _bootstrap(values: Sequence[float], method: str, seed: int) -> ConfidenceInterval:
    from scipy.stats import bootstrap

    with warnings.catch_warnings(action="ignore"):  # degenerate values are seen by the result
        found = bootstrap(
            (np.asarray(values, float),),
            np.mean,
            n_resamples=RESAMPLES,
            batch=max(_VALUES_AT_ONCE // len(values), 1),
            confidence_level=CONFIDENCE,
            method=method,
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return ConfidenceInterval(float(found.low), float(found.high))
