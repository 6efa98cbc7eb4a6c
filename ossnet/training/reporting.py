"""What a run reports, and to whom: its progress, and the protocol of its reporters."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class Reporter(Protocol):
    """Receives the metrics of a run."""

    def step(self, metrics: dict[str, float], step: int) -> None:
        """Metrics of one optimizer step, counted from 1; called on rank 0 only."""

    def epoch(self, metrics: dict[str, float], checkpoint: Path | None) -> None:
        """Metrics of one epoch; called on every rank. It may raise to end the run.

        Args:
            checkpoint: on rank 0, where there is a new one: a folder to copy from; it goes after the call.
        """


@dataclass(frozen=True)
class TrainState:
    """The progress of a run."""

    epoch: int = 0
    step: int = 0
    elapsed_s: float = 0.0
    step_s: float | None = None
    """What a step took lately."""
    case_s: float | None = None
    """What a case of the last validation took."""
