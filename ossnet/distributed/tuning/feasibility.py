"""An estimate, before anything runs, of how much of a search space fits the memory budget."""

import time
from dataclasses import dataclass, replace

from ossnet.distributed.tuning.search_space import Space, sample_points
from ossnet.errors import UserError
from ossnet.planning.configure.planner import Planner

_LONGEST_S = 20.0  # what an estimate for the whole space may take
_FEWEST = 8


@dataclass(frozen=True)
class FeasibilityEstimate:
    """The part of a space that fits a budget, by random samples."""

    sampled: int
    feasible: int
    smallest_gib: float
    largest_gib: float

    @property
    def fraction(self) -> float:
        """The fraction of the samples that fit."""
        return self.feasible / self.sampled

    def __str__(self) -> str:
        return (
            f"about {self.fraction:.0%} of the space fits "
            f"({self.feasible} of {self.sampled} random configurations; "
            f"predicted {self.smallest_gib:.3g} to {self.largest_gib:.3g} GiB)"
        )


def estimate_feasibility(space: Space, planner: Planner, budget_gib: float) -> FeasibilityEstimate:
    """Sample a space at random, for some seconds at most, and predict the peak of every sample, as it is
    resolved under the budget.

    Raises:
        UserError: nothing fits.
    """
    planner = replace(planner, budget_gib=budget_gib)
    start_s, peaks = time.monotonic(), list[float]()
    for _, changes in sample_points(space):
        peak_gib = planner.resolve(changes=changes).peak_gib
        assert peak_gib is not None
        peaks.append(peak_gib)
        if time.monotonic() - start_s > _LONGEST_S and len(peaks) >= _FEWEST:
            break
    feasible = sum(peak <= budget_gib for peak in peaks)
    estimate = FeasibilityEstimate(len(peaks), feasible, min(peaks), max(peaks))
    if not feasible:
        raise UserError(
            space.path.name,
            expected=f"configurations that fit {budget_gib:.3g} GiB",
            found=f"none of {estimate.sampled} random ones, "
            f"the smallest is predicted at {estimate.smallest_gib:.3g} GiB",
            remedy="raise --memory-budget or widen the space",
        )
    return estimate
