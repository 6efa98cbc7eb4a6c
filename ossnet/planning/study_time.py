"""The time of a study: by when its trials, its last training and all of it have to have ended."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Self

from ossnet.config import Config
from ossnet.data import Store
from ossnet.planning.allocation import Allocation

_SHORTEST_STEP_S = 0.01  # no network of ours is faster
_LEAST_START_S = 8.0  # that a trial is worth a start with


@dataclass(frozen=True)
class StudyTime:
    """What limits a study in time; unix seconds, or those of the clock `now`."""

    deadline: float
    """When everything has to have ended."""
    allocation: Allocation
    timed: bool
    """Whether the plan says how long a trial takes; else its epochs do, and only the deadline cuts it off."""
    now: Callable[[], float] = time.time

    @property
    def trials_until(self) -> float:
        """When all trials have to have ended."""
        return self.refit_until - self.allocation.refit_s

    @property
    def refit_until(self) -> float:
        """When the last training has to have ended."""
        return self.ensemble_until - self.allocation.ensemble_s

    @property
    def ensemble_until(self) -> float:
        """When the choice of an ensemble has to have ended."""
        return self.deadline - self.allocation.closing_s

    @property
    def trials_remaining_s(self) -> float:
        """Seconds until then."""
        return self.trials_until - self.now()

    @property
    def can_start(self) -> bool:
        """Whether a further trial is worth a start."""
        least = self.allocation.startable_s if self.timed else 0.0
        return self.trials_remaining_s > max(least, _LEAST_START_S)


@dataclass(frozen=True)
class TrialTime:
    """What a study of limited time gives each trial; kept with the study, so that it is resumed with it."""

    trial_s: float
    rungs: tuple[float, ...]

    @classmethod
    def of(cls, allocation: Allocation) -> Self:
        """The part of a plan that concerns a trial."""
        return cls(allocation.trial_s, allocation.rungs)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read what `to_dict` wrote."""
        return cls(float(values["trial_s"]), tuple(values["rungs"]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def changes(self, epochs: int) -> dict[str, Any]:
        """What it changes in a trial's configuration.

        Args:
            epochs: more than can fit.
        """
        return {
            "training.max_time_s": self.trial_s,
            "training.validate_at": self.rungs,
            "training.epochs": epochs,
        }


def most_epochs(config: Config, store: Store, time_s: float) -> int:
    """More epochs than fit in a time, whatever the network: the bound of a run that only time limits."""
    cases = store.split("training", fold=config.training.fold)
    steps = len(cases) * (config.training.steps_per_batch or 1) / config.training.batch_size
    return math.ceil(time_s / (max(steps, 1) * _SHORTEST_STEP_S))
