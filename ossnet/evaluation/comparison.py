"""Whether one network beats another on the same cases."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ossnet.evaluation.intervals import ConfidenceInterval, bootstrap_interval


@dataclass(frozen=True)
class Comparison:
    """The differences of one network to another, case by case."""

    cases: int
    """How many there are."""
    mean: float
    interval: ConfidenceInterval
    better: int
    """Cases where the first network has the larger value."""
    worse: int
    """Cases where the first network has the smaller value."""
    p_value: float
    """The p-value of Wilcoxon's signed-rank test, two-sided; 1 where no case differs."""


def compare(values: Sequence[float], others: Sequence[float]) -> Comparison:
    """Compare values of the same cases in the same order.

    Raises:
        ValueError: the numbers of cases differ, or there is none.
    """
    from scipy.stats import wilcoxon

    differences = [one - other for one, other in zip(values, others, strict=True)]
    moved = [each for each in differences if each]
    return Comparison(
        cases=len(differences),
        mean=float(np.mean(differences)),
        interval=bootstrap_interval(differences),
        better=sum(each > 0 for each in moved),
        worse=sum(each < 0 for each in moved),
        p_value=float(wilcoxon(moved).pvalue) if moved else 1.0,
    )
