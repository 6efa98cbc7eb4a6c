"""The compute cost of training, and what a study saved by stopping and by rejecting trials."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Self

from ossnet.distributed.reports.runs import RunRow

_HOUR_S = 3600


@dataclass(frozen=True)
class ComputeCost:
    """Hours of training; GPU-hours where any run had a GPU."""

    on_gpus: bool
    spent: float
    stopped: int
    """Runs that were stopped early."""
    saved_by_stopping: float
    """Estimated by the time that each stopped run took for an epoch."""
    rejected: int
    """Trials that were not scheduled, as they were predicted not to fit the budget."""
    saved_by_rejecting: float
    """Estimated by the average of the runs that started."""

    @classmethod
    def of(cls, runs: Sequence[RunRow], *, rejected: int) -> Self:
        """Add up the runs of a study.

        Args:
            rejected: trials that were not scheduled.
        """
        on_gpus = any(run.gpu_hours for run in runs)
        spent = [_hours(run, run.elapsed_s, on_gpus=on_gpus) for run in runs if run.elapsed_s]
        stopped = [run for run in runs if run.remaining_s is not None]
        return cls(
            on_gpus=on_gpus,
            spent=sum(spent),
            stopped=len(stopped),
            saved_by_stopping=sum(_hours(run, run.remaining_s or 0.0, on_gpus=on_gpus) for run in stopped),
            rejected=rejected,
            saved_by_rejecting=rejected * fmean(spent or [0.0]),
        )

    def __str__(self) -> str:
        text = f"{self._format(self.spent)} were spent{'' if self.on_gpus else ' on training'}."
        saved = []
        if self.stopped:
            saved.append(f"stopping {self.stopped} early saved about {self._format(self.saved_by_stopping)}")
        if self.rejected:
            saving = f"{self._format(self.saved_by_rejecting)}, at the average of those that started"
            saved.append(f"rejecting {self.rejected} as too large about {saving}")
        savings = "; ".join(saved)
        return f"{text} {savings[0].upper()}{savings[1:]}." if savings else text

    def _format(self, hours: float) -> str:
        unit, amount = ("hours", hours) if hours >= 1 else ("minutes", hours * 60)
        return f"{amount:.1f} {'GPU-' * self.on_gpus}{unit}"


def _hours(run: RunRow, seconds: float | None, *, on_gpus: bool) -> float:
    """Hours of a run's seconds; where `on_gpus`, times the number of its GPUs."""
    hours = (seconds or 0.0) / _HOUR_S
    if not on_gpus:
        return hours
    return hours * (run.gpu_hours or 0.0) * _HOUR_S / run.elapsed_s if run.elapsed_s else 0.0
