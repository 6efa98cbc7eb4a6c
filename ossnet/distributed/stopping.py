"""When a trial that falls behind is stopped: asynchronous successive halving by epochs (Li et al., 2020)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.tune.schedulers import TrialScheduler

_LONGEST = 1_000_000  # epochs: the configuration ends a trial, not the scheduler


@dataclass(frozen=True)
class StoppingConfig:
    """Rungs lie at `grace_epochs` and then `reduction` times as far each; trials are compared at each."""

    grace_epochs: int | None = None
    """Epochs that every trial gets; by default until its first validation."""
    reduction: int = 2
    """A trial goes on from a rung if it is among the best one in so many that came there so far."""


def scheduler(config: StoppingConfig, *, metric: str, epoch: str, first: int) -> "TrialScheduler":
    """The scheduler; `first` is the epoch of the first validation."""
    from ray.tune.schedulers import ASHAScheduler

    return ASHAScheduler(
        time_attr=epoch,  # Ray's own counter starts again when a trial does
        metric=metric,
        mode="max",
        max_t=_LONGEST,
        grace_period=config.grace_epochs or first,
        reduction_factor=config.reduction,
        stop_last_trials=False,
    )
