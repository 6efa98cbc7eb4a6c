"""The result of a study: its trials by how they ended, and the best one."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Self

from optuna.trial import FrozenTrial, TrialState

from ossnet.distributed.tuning.recovery.checkpoint import Fetch, restore_checkpoint
from ossnet.distributed.tuning.storage import (
    FORBIDDEN,
    METRICS,
    NETWORK_NAME,
    REPEATED,
    SEEDS,
    TuningStudy,
    end_of,
    is_feasible,
)
from ossnet.distributed.tuning.trial import TrialEnd, trial_title
from ossnet.errors import UserError
from ossnet.evaluation.intervals import student_interval
from ossnet.inference.ensemble import Ensemble
from ossnet.metric_names import ERROR, PREDICTED, VAL_DICE, metrics_summary
from ossnet.training.checkpoint_files import CHECKPOINT, replace_checkpoint

_STOPPED = {TrialEnd.STOPPED_EARLY, TrialEnd.TIME_LIMIT, TrialEnd.INTERRUPTED}


@dataclass(frozen=True)
class TrialCounts:
    """A study's trials by how they ended."""

    finished: int
    stopped: int
    """Stopped early, by a time limit or by an interruption."""
    infeasible: int
    """Found to be too large when they ran."""
    failed: int
    running: int
    rejected: int
    """Predicted to be too large: they took no slot, nor did those that follow."""
    repeated: int
    """Tried before."""
    forbidden: int
    """Not allowed by the space, which raised TrialPruned."""
    best: str | None
    """Dice and number of the best one."""

    @classmethod
    def of(cls, study: TuningStudy) -> Self:
        """Count the trials of a study."""
        suggested, started = study.suggested_trials(), study.started_trials()
        ends = [end_of(trial) for trial in started]
        best = best_of(started)
        return cls(
            finished=ends.count(TrialEnd.FINISHED),
            stopped=sum(end in _STOPPED for end in ends),
            infeasible=sum(end is not None and end.is_infeasible for end in ends),
            failed=ends.count(TrialEnd.FAILED),
            running=sum(trial.state == TrialState.RUNNING for trial in started),
            rejected=sum(end_of(trial) is TrialEnd.INFEASIBLE_PREDICTED for trial in suggested),
            repeated=sum(REPEATED in trial.user_attrs for trial in suggested),
            forbidden=sum(FORBIDDEN in trial.user_attrs for trial in suggested),
            best=None if best is None else f"{dice_of(best):.4f} by {best.number:03d}",
        )

    @property
    def ended(self) -> int:
        """Trials that took a slot and gave it back."""
        return self.finished + self.stopped + self.failed + self.infeasible

    @property
    def redrawn(self) -> dict[str, int]:
        """Suggestions that took no slot, by why; only those that there are."""
        counts = {
            "rejected as too large": self.rejected,
            "tried before": self.repeated,
            "forbidden by the space": self.forbidden,
        }
        return {why: number for why, number in counts.items() if number}

    def __str__(self) -> str:
        parts = [f"best {self.best}"] if self.best else []
        counts = {
            "running": self.running,
            "stopped early": self.stopped,
            "over budget": self.infeasible,
            **self.redrawn,
            "failed": self.failed,
        }
        return ", ".join([*parts, *(f"{number} {name}" for name, number in counts.items() if number)])


@dataclass(frozen=True)
class Refusal:
    """What the budget kept from starting, of one network."""

    network: str
    suggestions: int
    smallest_gib: float
    """The smallest predicted peak among them: the budget that would let one start."""

    @classmethod
    def of_study(cls, study: TuningStudy) -> tuple[Self, ...]:
        """One for each network of which suggestions were predicted to be too large, most of them first."""
        peaks = dict[str, list[float]]()
        for trial in study.suggested_trials():
            if end_of(trial) is TrialEnd.INFEASIBLE_PREDICTED:
                peaks.setdefault(trial.user_attrs[NETWORK_NAME], []).append(trial.user_attrs[PREDICTED])
        found = [cls(network, len(each), min(each)) for network, each in peaks.items()]
        return tuple(sorted(found, key=lambda each: -each.suggestions))

    def __str__(self) -> str:
        return f"{self.suggestions} of {self.network} (the smallest takes {self.smallest_gib:.3g} GiB)"


@dataclass(frozen=True)
class StudyResult:
    """The result of a study."""

    title: str
    """Number and network of the best trial."""
    params: Mapping[str, Any]
    """The sampled parameters of the best trial, by the names in the space."""
    metrics: Mapping[str, float]
    """Metrics of the best trial; over several seeds, their means."""
    dice: tuple[float, ...]
    """Dice of each seed of the best trial."""
    checkpoint: Path | None
    """Checkpoint of the best trial, if it came to one; of several seeds the best one's."""
    run: str
    """The id of the training that the checkpoint is of."""
    counts: TrialCounts
    refusals: tuple[Refusal, ...] = ()
    """What the budget kept from starting, by network."""
    model: str | None = None
    """URI of the network in the Model Registry."""
    refit: str | None = None
    """What the last training came to; None where there was none."""
    ensemble: Ensemble | None = None
    """The chosen ensemble, whose file lies in the study's folder."""

    @classmethod
    def of(
        cls,
        study: TuningStudy,
        output: Path,
        reasons: Sequence[str] = (),
        fetch: Fetch = lambda run, folder: False,
    ) -> Self:
        """Find the best trial of a study, and copy its checkpoint to `checkpoint` in the study's folder.

        The best is that of `best_of`.

        Args:
            output: the study's folder.
            reasons: why trainings failed.
            fetch: gets MLflow's copy of a checkpoint that is damaged.

        Raises:
            UserError: no trial came to a result; names the first reason.
        """
        started = study.started_trials()
        best = best_of(started)
        if best is None:
            if not started:
                raise UserError(
                    output,
                    expected="a suggestion that can start",
                    found=f"none: {TrialCounts.of(study)}",
                    remedy="widen the space",
                )
            stored = [str(trial.user_attrs[ERROR]) for trial in started if ERROR in trial.user_attrs]
            reason = [*reasons, *stored, "it ended before the first validation"][0]
            raise UserError(output, expected="a trial that comes to a result", found=f"none: {reason}")
        seeds: dict[str, dict[str, float]] = best.user_attrs.get(SEEDS, {})
        metrics = {VAL_DICE: dice_of(best), **best.user_attrs.get(METRICS, {})}
        seed = int(max(seeds, key=lambda each: seeds[each][VAL_DICE], default="0"))
        run = study.run_id(best.number, seed)
        trained = restore_checkpoint(
            output, best.number, seed, run, end_of(best), dice=metrics[VAL_DICE], fetch=fetch
        )
        return cls(
            title=trial_title(best.number, best.user_attrs[NETWORK_NAME]),
            params=best.params,
            metrics=metrics,
            dice=tuple(each[VAL_DICE] for each in seeds.values()) or (metrics[VAL_DICE],),
            checkpoint=_keep_checkpoint(trained, output / CHECKPOINT),
            run=run,
            counts=TrialCounts.of(study),
            refusals=Refusal.of_study(study),
        )

    def summary(self) -> dict[str, object]:
        """Human-readable rows by their names."""
        params = ", ".join(f"{name}={value}" for name, value in self.params.items())
        counts = self.counts
        trials = f"{counts.finished} finished, {counts.stopped} stopped early, {counts.failed} failed"
        others = {"over budget": counts.infeasible, **counts.redrawn}
        trials += "".join(f", {number} {name}" for name, number in others.items() if number)
        best = {"best trial": f"{self.title} ({params})", **metrics_summary(self.metrics)}
        interval = student_interval(self.dice)
        if interval is not None:
            mean, half_width = f"{fmean(self.dice):.4f}", f"{interval.half_width:.4f}"
            best["Dice"] = f"{mean} ± {half_width} ({len(self.dice)} seeds)"
        registered = {} if self.model is None else {"registered as": self.model}
        best |= {} if self.refit is None else {"trained once more": self.refit}
        best |= {} if self.ensemble is None else {"ensemble": str(self.ensemble)}
        refused = {"too large": ", ".join(map(str, self.refusals))} if self.refusals else {}
        return {**best, "checkpoint": self.checkpoint, **registered, "trials": trials, **refused}

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON values."""
        counts = self.counts
        trials = {
            "finished": counts.finished,
            "stopped": counts.stopped,
            "failed": counts.failed,
            "infeasible": counts.infeasible,
            "rejected": counts.rejected,
            "repeated": counts.repeated,
            "forbidden": counts.forbidden,
        }
        best = {"name": self.title, "params": dict(self.params), "metrics": dict(self.metrics)}
        interval = student_interval(self.dice)
        half_width = None if interval is None else interval.half_width
        dice = {"mean": fmean(self.dice), "half_width": half_width, "count": len(self.dice)}
        found: dict[str, Any] = {"checkpoint": self.checkpoint, "model": self.model, "refit": self.refit}
        found["refused"] = {
            each.network: {"suggestions": each.suggestions, "smallest_gib": each.smallest_gib}
            for each in self.refusals
        }
        if self.ensemble is not None:
            found["ensemble"] = self.ensemble.to_dict()
        return {"best": best | {"dice": dice}, **found, "trials": trials}


def best_of(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The best Dice among the trials that finished, or were cut short by the end of the study once they had
    been validated; if there is none, among all that were validated."""
    candidates = [trial for trial in trials if is_feasible(trial) and trial.state != TrialState.FAIL]
    finished = [trial for trial in candidates if trial.state == TrialState.COMPLETE]
    pruned = [trial for trial in candidates if trial.state == TrialState.PRUNED]
    validated = [trial for trial in pruned if trial.intermediate_values]
    cut_short = [trial for trial in validated if end_of(trial) is TrialEnd.TIME_LIMIT]
    return max(finished + cut_short or validated, key=dice_of, default=None)


def dice_of(trial: FrozenTrial) -> float:
    """A finished trial's Dice, the best one of a trial that was cut short, or the last one of a stopped
    trial."""
    if trial.state == TrialState.COMPLETE:
        return float(trial.values[0])
    if end_of(trial) is TrialEnd.TIME_LIMIT:
        return float(max(trial.intermediate_values.values()))
    return float(trial.intermediate_values[max(trial.intermediate_values)])


def feasible_fraction(study: TuningStudy) -> str:
    """A sentence on how many suggestions started, why others did not, and how many fit the budget."""
    suggested, started = study.suggested_trials(), study.started_trials()
    feasible = sum(is_feasible(trial) for trial in started)
    redrawn = ", ".join(f"{number} {why}" for why, number in TrialCounts.of(study).redrawn.items())
    others = f" ({redrawn})" if redrawn else ""
    refused = ", ".join(map(str, Refusal.of_study(study)))
    too_large = f" Too large by prediction were {refused}." if refused else ""
    return (
        f"{len(suggested)} configurations were suggested, {len(started)} of them started{others}; "
        f"{feasible} of those kept to the memory budget.{too_large}"
    )


def _keep_checkpoint(checkpoint: Path | None, target: Path) -> Path | None:
    if checkpoint is None:
        return None
    with replace_checkpoint(target) as folder:
        shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
    return target
