"""A mean with its interval of confidence."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Self

_LEVEL = 0.95


@dataclass(frozen=True)
class ConfidenceInterval:
    """Over seeds: the mean lies within `half_width` of the true one with 95 % confidence (Student's t)."""

    mean: float
    half_width: float | None
    """None where there are fewer than two values."""
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """Of values thought to be normal."""
        if len(values) < 2:
            return cls(fmean(values), None, len(values))
        from scipy.stats import t

        half_width = float(t.ppf((1 + _LEVEL) / 2, len(values) - 1)) * stdev(values) / sqrt(len(values))
        return cls(fmean(values), half_width, len(values))

    def __str__(self) -> str:
        if self.half_width is None:
            return f"{self.mean:.4f}"
        return f"{self.mean:.4f} ± {self.half_width:.4f} ({self.count} seeds)"
