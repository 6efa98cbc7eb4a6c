"""When a trial that falls behind is stopped."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class EarlyStoppingConfig:
    """Which trials go on."""

    algorithm: Literal["asha", "median", "none"] = "asha"
    """asha: a trial continues from a rung if it is among the best one in `reduction_factor` that reached it
    so far (Li et al., 2020). median: a trial continues while its best is not below the median of the others'
    means so far (Golovin et al., 2017)."""
    grace_period: int | None = None
    """Epochs that every trial gets; by default until its first validation."""
    reduction_factor: int = 2
    """Of asha: each rung lies so many times as far as the one before, the first at `grace_period`."""
