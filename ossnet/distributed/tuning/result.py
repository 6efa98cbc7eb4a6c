"""The result of a study: its trials by how they ended, and the best one."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Self

from optuna.trial import FrozenTrial, TrialState

from ossnet.distributed.tuning.config import OBJECTIVES
from ossnet.distributed.tuning.early_stopping.ranking import nondominated_ranks
from ossnet.distributed.tuning.recovery.checkpoint import Fetch, restore_checkpoint
from ossnet.distributed.tuning.search_space import short
from ossnet.distributed.tuning.storage import (
    FORBIDDEN,
    METRICS,
    NETWORK_NAME,
    REPEATED,
    SEEDS,
    TuningStudy,
    end_of,
    is_feasible,
    is_refused,
)
from ossnet.distributed.tuning.trial import TrialEnd, trial_title
from ossnet.errors import UserError
from ossnet.evaluation.intervals import student_interval
from ossnet.inference.ensemble import Ensemble
from ossnet.metric_names import (
    CASE_MEDIAN,
    ERROR,
    INFERENCE_MEMORY,
    PREDICTED,
    VAL_DICE,
    metrics_summary,
)
from ossnet.planning.refusals import Constraint, Refusal
from ossnet.training.checkpoint_files import CHECKPOINT, replace_checkpoint

_SHOWN = 8  # members of a front that are listed
_PASSED: dict[Constraint, str] = {
    "memory": PREDICTED,
    "inference": INFERENCE_MEMORY,
    "seconds": CASE_MEDIAN,
}
_STOPPED = {TrialEnd.STOPPED_EARLY, TrialEnd.TIME_LIMIT, TrialEnd.INTERRUPTED}


@dataclass(frozen=True)
class TrialCounts:
    """A study's trials by how they ended."""

    finished: int
    stopped: int
    """Stopped early, by a time limit or by an interruption."""
    infeasible: int
    """Found to be too large or too slow when they ran."""
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
            rejected=sum(map(is_refused, suggested)),
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


def refusals_of(study: TuningStudy) -> tuple[Refusal, ...]:
    """One for each network and limit that suggestions of it passed by prediction, or by the measured time of
    a case, most of them first."""
    found = list[tuple[str, Constraint, float]]()
    for trial in study.suggested_trials():
        end = end_of(trial)
        if end is not None and (end.is_refusal or end is TrialEnd.TOO_SLOW):
            known = {**trial.user_attrs, **trial.user_attrs.get(METRICS, {})}
            value = known[_PASSED[end.constraint]]
            found.append((trial.user_attrs[NETWORK_NAME], end.constraint, value))
    return Refusal.collect(found)


@dataclass(frozen=True)
class FrontMember:
    """A trial that no other is better than in all objectives."""

    number: int
    network: str
    params: Mapping[str, Any]
    values: Mapping[str, float]
    """The values of the objectives, by their names."""

    @classmethod
    def of_study(cls, study: TuningStudy) -> tuple[Self, ...]:
        """The Pareto front over all objectives of a study's candidates, the best Dice first.

        A trial without a value of an objective is not on it. Empty for a single objective.
        """
        names = study.objectives
        members = list[Self]()
        for trial in candidates(study.started_trials()) if len(names) > 1 else ():
            known = {**trial.user_attrs.get(METRICS, {}), VAL_DICE: dice_of(trial)}
            metrics = {name: OBJECTIVES[name].metric for name in names}
            if known.keys() >= set(metrics.values()):
                values = {name: known[metric] for name, metric in metrics.items()}
                members.append(cls(trial.number, trial.user_attrs[NETWORK_NAME], trial.params, values))
        ranks = nondominated_ranks([each.losses for each in members])
        front = [each for each, rank in zip(members, ranks, strict=True) if rank == 0]
        return tuple(sorted(front, key=lambda each: each.losses))

    @property
    def losses(self) -> tuple[float, ...]:
        """The values as what is to be small."""
        signs = {"maximize": -1.0, "minimize": 1.0}
        return tuple(signs[OBJECTIVES[name].direction] * value for name, value in self.values.items())

    def __str__(self) -> str:
        costs = [
            f"{name} {value:.3g}{OBJECTIVES[name].unit}"
            for name, value in self.values.items()
            if name != "dice"
        ]
        title = trial_title(self.number, self.network)
        return ", ".join([f"{title} (Dice {self.values['dice']:.4f}", *costs]) + ")"


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
    """What the limits kept from starting or continuing, by network."""
    front: tuple[FrontMember, ...] = ()
    """The Pareto front, where there are several objectives."""
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
            refusals=refusals_of(study),
            front=FrontMember.of_study(study),
        )

    def summary(self) -> dict[str, object]:
        """Human-readable rows by their names."""
        params = ", ".join(f"{name}={short(value)}" for name, value in self.params.items())
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
        best |= {} if self.refit is None else {"trained on": self.refit}
        best |= {} if self.ensemble is None else {"ensemble": str(self.ensemble)}
        front = {"Pareto front": shown_front(self.front)} if self.front else {}
        refused = {"too large": _listed(self.refusals), "too slow": _listed(self.refusals, slow=True)}
        rows = {**best, **front, "checkpoint": self.checkpoint, **registered, "trials": trials}
        return {**rows, **{name: text for name, text in refused.items() if text}}

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
            each.network: {"suggestions": each.trials, "smallest_gib": each.least, "option": each.option}
            for each in self.refusals
            if each.constraint == "memory"
        }
        found["refused_by_others"] = [
            {"network": each.network, "limit": each.constraint, "trials": each.trials, "least": each.least}
            for each in self.refusals
            if each.constraint != "memory"
        ]
        found["front"] = [
            {"name": trial_title(each.number, each.network), "params": each.params, "values": each.values}
            for each in self.front
        ]
        if self.ensemble is not None:
            found["ensemble"] = self.ensemble.to_dict()
        return {"best": best | {"dice": dice}, **found, "trials": trials}


def best_of(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The best Dice among the candidates."""
    return max(candidates(trials), key=dice_of, default=None)


def candidates(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that kept to the limits and finished, or were cut short by the end of the study once they
    had been validated; if there is none, all that kept to the limits and were validated."""
    kept = [trial for trial in trials if is_feasible(trial) and trial.state != TrialState.FAIL]
    finished = [trial for trial in kept if trial.state == TrialState.COMPLETE]
    pruned = [trial for trial in kept if trial.state == TrialState.PRUNED]
    validated = [trial for trial in pruned if trial.intermediate_values]
    cut_short = [trial for trial in validated if end_of(trial) is TrialEnd.TIME_LIMIT]
    return finished + cut_short or validated


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
    refusals = refusals_of(study)
    large, slow = _listed(refusals), _listed(refusals, slow=True)
    text = (
        f"{len(suggested)} configurations were suggested, {len(started)} of them started{others}; "
        f"{feasible} of those kept to the {'limits' if slow else 'memory budget'}."
    )
    text += f" Too large by prediction were {large}." if large else ""
    return text + (f" Too slow were {slow}." if slow else "")


def shown_front(front: Sequence[FrontMember]) -> str:
    """The members of a front with the best Dice, in words."""
    more = f"; and {len(front) - _SHOWN} more" if len(front) > _SHOWN else ""
    return "; ".join(map(str, front[:_SHOWN])) + more


def _listed(refusals: Sequence[Refusal], *, slow: bool = False) -> str:
    return ", ".join(str(each) for each in refusals if (each.constraint == "seconds") == slow)


def _keep_checkpoint(checkpoint: Path | None, target: Path) -> Path | None:
    if checkpoint is None:
        return None
    with replace_checkpoint(target) as folder:
        shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
    return target
