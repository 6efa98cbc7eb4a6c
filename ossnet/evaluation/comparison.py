"""How sure a mean is, and whether one network beats another on the same cases.

Letters: N cases, R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class ConfidenceInterval:
    """Percentiles of the mean over resampled cases."""

    low: float
    high: float


def bootstrap(values: Sequence[float], seed: int = 0) -> ConfidenceInterval:
    """95 % interval of the mean over cases, drawn anew 10,000 times.

    Raises:
        ValueError: no values.
    """
    if not values:
        msg = "expected the values of one case at least"
        raise ValueError(msg)
    random, sample = np.random.default_rng(seed), np.asarray(values, float)
    means = sample[random.integers(0, len(sample), (RESAMPLES, len(sample)))].mean(1)
    low, high = np.quantile(means, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)).tolist()
    return ConfidenceInterval(low, high)


@dataclass(frozen=True)
class Comparison:
    """One network minus another, case by case."""

    mean: float
    interval: ConfidenceInterval
    better: int
    """Cases where the first has the larger value."""
    worse: int
    p_value: float
    """Of Wilcoxon's signed-rank test, two-sided; 1 where no case differs."""


def compare(values: Sequence[float], others: Sequence[float]) -> Comparison:
    """Compare values of the same cases in the same order.

    Raises:
        ValueError: another number of cases, or none.
    """
    from scipy.stats import wilcoxon

    differences = [one - other for one, other in zip(values, others, strict=True)]
    moved = [each for each in differences if each]
    return Comparison(
        mean=float(np.mean(differences)),
        interval=bootstrap(differences),
        better=sum(each > 0 for each in moved),
        worse=sum(each < 0 for each in moved),
        p_value=float(wilcoxon(moved).pvalue) if moved else 1.0,
    )
