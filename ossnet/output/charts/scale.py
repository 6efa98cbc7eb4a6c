"""From values to places on a chart, and the round values that an axis names."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

_PADDING = 0.05  # of the range, on each side


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic axis."""

    low: float
    high: float
    start: float
    """Where `low` is drawn."""
    end: float
    """Where `high` is drawn."""
    log: bool = False

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float, *, log: bool = False) -> Self:
        """An axis that holds these values and some space around them; one value alone lies in the middle."""
        found = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
        low, high = (min(found), max(found)) if found else (1.0, 1.0)
        if log:
            ratio = max((high / low) ** _PADDING, 1.1)
            return cls(low / ratio, high * ratio, start, end, log=True)
        space = _PADDING * (high - low)
        if space <= 1e-9 * max(abs(low), abs(high), 1e-3):
            space = max(0.1 * abs(high), 1e-3)
        return cls(low - space, high + space, start, end)

    def __call__(self, value: float) -> float:
        """Where a value is drawn."""
        low, high = self.low, self.high
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(max(value, self.low))
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self, most: int = 6, *, whole: bool = False) -> list[float]:
        """Round values inside the axis.

        Args:
            whole: only whole numbers, as of epochs.
        """
        if self.log:
            found = [
                factor * 10.0**power
                for power in range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
                for factor in (1, 2, 5)
            ]
            inside = [value for value in found if self.low <= value <= self.high]
            return inside if 2 <= len(inside) <= most else self._linear(most, whole=whole)
        return self._linear(most, whole=whole)

    def _linear(self, most: int, *, whole: bool) -> list[float]:
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
        step = max(1.0, float(math.ceil(step))) if whole else step
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [round(position * step, 12) for position in range(first, last + 1)]


def number(value: float) -> str:
    """A value as an axis and a tooltip name it: three digits."""
    if value == int(value) and abs(value) < 1e5:
        return str(int(value))
    return f"{value:.3g}"
