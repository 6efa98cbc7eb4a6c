"""How far a study is, counted from what Optuna holds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from optuna.trial import FrozenTrial, TrialState

from ossnet.distributed.tuning.storage import TuningStudy, feasible


@dataclass(frozen=True)
class TrialCounts:
    """A study's trials by how they ended."""

    finished: int
    stopped: int
    """Early, or by a time limit."""
    infeasible: int
    """Found too large when they ran."""
    failed: int
    running: int
    refused: int
    """Predicted to be too large, or tried before: they took no slot."""
    best: str | None
    """The best one's Dice and number."""

    @classmethod
    def of(cls, notebook: TuningStudy) -> Self:
        """Count a study."""
        seen, started = notebook.seen(), notebook.started()
        kept = [trial for trial in started if feasible(trial)]

        def count(state: TrialState) -> int:
            return sum(trial.state == state for trial in kept)

        leader = best_of(kept)
        return cls(
            finished=count(TrialState.COMPLETE),
            stopped=count(TrialState.PRUNED),
            failed=count(TrialState.FAIL),
            running=count(TrialState.RUNNING),
            infeasible=len(started) - len(kept),
            refused=len(seen) - len(started),
            best=None if leader is None else f"{dice_of(leader):.4f} by {leader.number:03d}",
        )

    @property
    def ended(self) -> int:
        """Trials that took a slot and gave it back."""
        return self.finished + self.stopped + self.failed + self.infeasible

    def __str__(self) -> str:
        parts = [f"best {self.best}"] if self.best else []
        counts = {
            "running": self.running,
            "stopped early": self.stopped,
            "over budget": self.infeasible,
            "refused": self.refused,
            "failed": self.failed,
        }
        return ", ".join([*parts, *(f"{number} {name}" for name, number in counts.items() if number)])


def best_of(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The best Dice among the trials that finished; if none did, among those that were validated."""
    kept = [trial for trial in trials if feasible(trial) and trial.state != TrialState.FAIL]
    finished = [trial for trial in kept if trial.state == TrialState.COMPLETE]
    validated = [trial for trial in kept if trial.state == TrialState.PRUNED and trial.intermediate_values]
    return max(finished or validated, key=dice_of, default=None)


def dice_of(trial: FrozenTrial) -> float:
    """A finished trial's Dice, or the last one that a stopped trial came to."""
    if trial.state == TrialState.COMPLETE:
        return float(trial.values[0])
    return float(trial.intermediate_values[max(trial.intermediate_values)])


def feasible_fraction(notebook: TuningStudy) -> str:
    """A sentence on what fitted the memory budget."""
    seen, started = notebook.seen(), notebook.started()
    kept = sum(feasible(trial) for trial in started)
    return (
        f"{len(seen)} configurations were suggested, {len(started)} of them started; "
        f"{kept} of those kept to the memory budget."
    )
