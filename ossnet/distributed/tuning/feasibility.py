"""How much of a search space fits the memory budget, told before anything runs."""

import time
from dataclasses import dataclass

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.tuning.search_space import Space, configure, draws
from ossnet.errors import UserError
from ossnet.planning.estimator import PeakEstimator

_SURVEY_S = 20.0  # what a look at the whole space may take
_FEWEST = 8


@dataclass(frozen=True)
class FeasibilityEstimate:
    """How much of a space fits a budget, by random draws."""

    drawn: int
    fitting: int
    smallest_gib: float
    largest_gib: float

    @property
    def share(self) -> float:
        """Of the draws that fit."""
        return self.fitting / self.drawn

    def __str__(self) -> str:
        return (
            f"about {self.share:.0%} of the space fits "
            f"({self.fitting} of {self.drawn} random configurations; "
            f"predicted {self.smallest_gib:.3g} to {self.largest_gib:.3g} GiB)"
        )


def survey(
    space: Space, base: Config, store: Store, forecast: PeakEstimator, budget_gib: float
) -> FeasibilityEstimate:
    """Draw from a space at random, for some seconds at most, and predict every draw.

    Raises:
        UserError: nothing fits.
    """
    began, peaks = time.monotonic(), list[float]()
    for _, changes in draws(space):
        peaks.append(forecast.gib(configure(base, changes, store)))
        if time.monotonic() - began > _SURVEY_S and len(peaks) >= _FEWEST:
            break
    fitting = sum(peak <= budget_gib for peak in peaks)
    found = FeasibilityEstimate(len(peaks), fitting, min(peaks), max(peaks))
    if not fitting:
        msg = (
            f"{space.path.name}: none of {found.drawn} random configurations fits {budget_gib:.3g} GiB, the "
            f"smallest is predicted at {found.smallest_gib:.3g} GiB: raise --memory-budget or widen the space"
        )
        raise UserError(msg)
    return found
