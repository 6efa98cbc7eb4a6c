"""What a run reports, and to whom: its progress, and the protocol of its reporters."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

from ossnet.training.checkpoint_files import TRACKING
from ossnet.training.clock import Pace


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
class RunOrigin:
    """Where the run that a checkpoint is of is tracked."""

    run: str
    """The run's id, as its tag has it."""
    uri: str
    """The store of runs, without a password."""
    experiment: str

    def to_json(self) -> str:
        """The text of a checkpoint's `tracking.json`."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def read(cls, checkpoint: Path) -> "RunOrigin | None":
        """What a checkpoint says of its run; None where it says nothing."""
        path = checkpoint / TRACKING
        return cls(**json.loads(path.read_text())) if path.is_file() else None


@dataclass(frozen=True)
class TrainState:
    """The progress of a run."""

    epoch: int = 0
    step: int = 0
    elapsed_s: float = 0.0
    worker_s: float = 0.0
    """Those seconds, each times the workers of its session."""
    step_s: float | None = None
    """What a step took lately."""
    case_s: float | None = None
    """What a case of the last validation took."""

    def at(self, elapsed_s: float, pace: Pace, *, workers: int) -> "TrainState":
        """The same place at a later time of a session."""
        more_s = workers * (elapsed_s - self.elapsed_s)
        return replace(
            self,
            elapsed_s=elapsed_s,
            worker_s=self.worker_s + more_s,
            step_s=pace.step_s,
            case_s=pace.case_s,
        )
