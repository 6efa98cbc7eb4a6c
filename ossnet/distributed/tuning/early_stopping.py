"""When a trial that falls behind is stopped."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class StoppingConfig:
    """Which trials go on."""

    rule: Literal["asha", "median", "none"] = "asha"
    """asha: rungs lie at `grace_epochs` and then `reduction` times as far each, and a trial goes on from a
    rung if it is among the best one in `reduction` that came there so far (Li et al., 2020). median: a trial
    goes on while its best is not below the median of the others' means so far (Golovin et al., 2017)."""
    grace_epochs: int | None = None
    """Epochs that every trial gets; by default until its first validation."""
    reduction: int = 2
    """See `rule`."""
