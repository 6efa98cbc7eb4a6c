"""What training costs: hours spent, and those that a study saved by stopping and refusing trials."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol, Self

from ossnet.metric_names import ELAPSED, GPU_HOURS

_HOUR_S = 3600


class Charged(Protocol):
    """What a ledger needs of a run."""

    @property
    def elapsed_s(self) -> float | None:
        """Of training and validation."""

    @property
    def gpu_hours(self) -> float | None:
        """None of a run without a GPU."""

    @property
    def left_s(self) -> float | None:
        """What it would have taken to its end, had it not been stopped early; None where it was not."""


@dataclass(frozen=True)
class ComputeCost:
    """Hours of training; GPU-hours where there were GPUs."""

    on_gpus: bool
    spent: float
    stopped: int
    saved_by_stopping: float
    """As long as each stopped run's epochs took so far."""
    refused: int
    saved_by_refusing: float
    """As much as a started run took on average."""

    @classmethod
    def of(cls, runs: Sequence[Charged], *, refused: int) -> Self:
        """Add up the runs of a study.

        Args:
            refused: trials that took no slot.
        """
        on_gpus = any(run.gpu_hours for run in runs)
        spent = [_hours(run, run.elapsed_s, on_gpus=on_gpus) for run in runs if run.elapsed_s]
        stopped = [run for run in runs if run.left_s is not None]
        return cls(
            on_gpus=on_gpus,
            spent=sum(spent),
            stopped=len(stopped),
            saved_by_stopping=sum(_hours(run, run.left_s or 0.0, on_gpus=on_gpus) for run in stopped),
            refused=refused,
            saved_by_refusing=refused * fmean(spent or [0.0]),
        )

    def __str__(self) -> str:
        text = f"{self._told(self.spent)} were spent{'' if self.on_gpus else ' on training'}."
        saved = []
        if self.stopped:
            saved.append(f"stopping {self.stopped} early saved about {self._told(self.saved_by_stopping)}")
        if self.refused:
            saving = f"{self._told(self.saved_by_refusing)}, at the average of those that started"
            saved.append(f"refusing {self.refused} as too large about {saving}")
        told = "; ".join(saved)
        return f"{text} {told[0].upper()}{told[1:]}." if told else text

    def _told(self, hours: float) -> str:
        unit, amount = ("hours", hours) if hours >= 1 else ("minutes", hours * 60)
        return f"{amount:.1f} {'GPU-' * self.on_gpus}{unit}"


def with_gpu_hours(metrics: Mapping[str, float], gpus: float) -> dict[str, float]:
    """An epoch's metrics with what the run has cost so far; of a run without a GPU as they are."""
    return {**metrics, **({GPU_HOURS: gpus * metrics[ELAPSED] / _HOUR_S} if gpus else {})}


def _hours(run: Charged, seconds: float | None, *, on_gpus: bool) -> float:
    """Hours of a run's seconds, times its GPUs."""
    hours = (seconds or 0.0) / _HOUR_S
    if not on_gpus:
        return hours
    return hours * (run.gpu_hours or 0.0) * _HOUR_S / run.elapsed_s if run.elapsed_s else 0.0
