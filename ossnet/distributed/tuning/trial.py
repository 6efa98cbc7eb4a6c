"""Types of a training in a study: its specification by the searcher, and its outcome.

A trial is one suggestion of the sampler. It is trained once for each seed, and each of these trainings is a
trial of Ray Tune and a run in MLflow.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from ossnet.config import Config
from ossnet.metric_names import (
    CASE_MEDIAN,
    CUT_SHORT,
    EARLY_STOPPED,
    ERROR,
    FAULTY_NODE,
    FINAL,
    INFEASIBLE,
    MEMORY,
    OUT_OF_MEMORY,
    STOP_REASON,
)
from ossnet.planning.refusals import Constraint

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

_INFEASIBLE = f"{INFEASIBLE}: "
_LISTS = ("search_params", "avoid")


@dataclass(frozen=True)
class TrialSpec:
    """The specification of a training. Ray Tune carries it as a dictionary of plain values."""

    config_json: str
    run: str
    """Id of the training in the tracker, the same in every session."""
    number: int
    """Optuna's number of the trial."""
    seed: int
    """Position of the training's seed among those of the trial."""
    seeds: int
    """Number of trainings of each trial."""
    params: Mapping[str, Any]
    """The sampled parameters, by the names in the space."""
    search_params: tuple[str, ...] = ()
    """The configuration paths that the space decided."""
    predicted_gib: float | None = None
    """Predicted peak of a training step; None where it was not requested."""
    expected_gib: float | None = None
    """The predicted peak, corrected by how earlier measured peaks compare with theirs."""
    inference_gib: float | None = None
    """Predicted peak of predicting a case; None where it was not requested."""
    resume_from: str | None = None
    """Checkpoint folder of an earlier session."""
    deadline: float | None = None
    """Unix time by which it has to have ended."""
    avoid: tuple[str, ...] = ()
    """Ray's ids of the nodes on which it is not to run."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote; what Ray Tune added to it is ignored."""
        known = {each.name: values[each.name] for each in dataclasses.fields(cls)}
        return cls(**known | {name: tuple(known[name]) for name in _LISTS})

    @classmethod
    def from_trial(cls, trial: "Trial") -> Self:
        """Read the spec of one of Ray Tune's trials."""
        return cls.from_dict(trial.config)

    def to_dict(self) -> dict[str, Any]:
        """The spec as a configuration of Ray Tune."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return values | {"params": dict(self.params)} | {name: list(values[name]) for name in _LISTS}

    @cached_property
    def config(self) -> Config:
        """The whole configuration, parsed on first use."""
        return Config.from_json(self.config_json)

    @property
    def varied(self) -> dict[str, Any]:
        """What the space decided, but for the network, which the title names."""
        return {name: value for name, value in self.params.items() if value != self.config.model.name}

    @property
    def title(self) -> str:
        """The number, the network and, where there are several, the seed, human-readable."""
        seed = f" seed {self.seed}" if self.seeds > 1 else ""
        return trial_title(self.number, self.config.model.name) + seed


def trial_title(number: int, network: str) -> str:
    """A trial's number and network, human-readable."""
    return f"{number:03d} {network}"


class TrialEnd(StrEnum):
    """Every way in which a training, or a trial, can end."""

    FINISHED = "finished"
    STOPPED_EARLY = EARLY_STOPPED
    TIME_LIMIT = "time limit"
    INTERRUPTED = "interrupted"
    NODE_FAILURE = "node failure"
    INFEASIBLE_PREDICTED = f"{_INFEASIBLE}predicted"
    INFEASIBLE_MEASURED = f"{_INFEASIBLE}measured"
    INFERENCE_PREDICTED = f"{_INFEASIBLE}predicted for inference"
    TOO_SLOW = f"{_INFEASIBLE}seconds a case"
    OUT_OF_MEMORY = f"{_INFEASIBLE}out of memory"
    HOST_MEMORY = f"{_INFEASIBLE}out of host memory"
    FAILED = "failed"

    @property
    def cause(self) -> str | None:
        """How it was found that a limit was passed; None where none was."""
        return self.value.removeprefix(_INFEASIBLE) if self.is_infeasible else None

    @property
    def is_infeasible(self) -> bool:
        """Whether more memory or time was needed than there is or may be used."""
        return self.value.startswith(_INFEASIBLE)

    @property
    def is_refusal(self) -> bool:
        """Whether it was known before the start that it would be infeasible."""
        return self in {TrialEnd.INFEASIBLE_PREDICTED, TrialEnd.INFERENCE_PREDICTED}

    @property
    def constraint(self) -> Constraint:
        """The constraint that an infeasible trial passed."""
        if self is TrialEnd.INFERENCE_PREDICTED:
            return "inference"
        return "seconds" if self is TrialEnd.TOO_SLOW else "memory"


@dataclass(frozen=True)
class TrialFacts:
    """All that the end of a training is decided from."""

    result: Mapping[str, Any] = field(default_factory=dict)
    """The last one that Ray Tune has of it."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """The last known value of each metric: not every result has all."""
    expected_gib: float | None = None
    """Predicted peak before the start, after calibration."""
    limit_gib: float | None = None
    """The largest expected peak that may start."""
    budget_gib: float | None = None
    """The largest measured peak that may continue."""
    inference_gib: float | None = None
    """Predicted peak of predicting a case, before the start."""
    inference_budget_gib: float | None = None
    """The largest one that may start."""
    seconds_per_case: float | None = None
    """The longest that predicting a case may take."""
    ended: bool = False
    """Whether it returned or was stopped, by whatever."""
    lost: bool = False
    """Whether its process died for the last time."""
    killed_for_memory: bool = False
    """Whether Ray killed its process at one of its tries, as host memory ran out."""
    cut_off: bool = False
    """Whether it was still running when the study ended."""
    time_is_up: bool = False
    """Whether the study ended by its time limit."""


@dataclass(frozen=True)
class TrialOutcome:
    """The end of a training: how it ended and with which result."""

    end: TrialEnd
    metrics: Mapping[str, float]
    """The last known value of each metric."""
    error: str | None = None
    """Why it failed or ran out of memory, in one line."""

    @property
    def status(self) -> str:
        """The status of its MLflow run."""
        return {TrialEnd.FINISHED: "FINISHED", TrialEnd.FAILED: "FAILED"}.get(self.end, "KILLED")

    def tags(self) -> dict[str, str]:
        """The tags that its MLflow run is closed with."""
        error = {} if self.error is None else {ERROR: self.error}
        if self.end.cause is not None:
            return {STOP_REASON: INFEASIBLE, INFEASIBLE: self.end.cause} | error
        return error if self.status != "KILLED" else {STOP_REASON: self.end.value} | error


def decide_outcome(facts: TrialFacts) -> TrialOutcome | None:
    """Decide how a training ended; None while nothing ends it."""
    end = _decide_end(facts)
    if end is None:
        return None
    metrics = dict(facts.metrics)
    if end is TrialEnd.OUT_OF_MEMORY:
        metrics[MEMORY] = float(facts.result[OUT_OF_MEMORY])
    error = facts.result.get(ERROR)
    if error is None and facts.lost:
        error = "its process was lost too often"
    return TrialOutcome(end, metrics, None if error is None else str(error))


def _decide_end(facts: TrialFacts) -> TrialEnd | None:
    """The first that applies: what cannot fit, then what failed, then what was stopped."""
    refusal = _decide_refusal(facts)
    if refusal is not None:
        return refusal
    if OUT_OF_MEMORY in facts.result:
        return TrialEnd.OUT_OF_MEMORY
    if facts.lost and facts.killed_for_memory:
        return TrialEnd.HOST_MEMORY
    if FAULTY_NODE in facts.result and not facts.lost:
        return TrialEnd.NODE_FAILURE
    cut_short = not facts.lost and bool(facts.result.get(CUT_SHORT))
    if facts.lost or (ERROR in facts.result and not cut_short):
        return TrialEnd.FAILED
    return _passed_limit(facts) or _decide_stop(facts, cut_short=cut_short)


def _decide_refusal(facts: TrialFacts) -> TrialEnd | None:
    if _exceeds(facts.expected_gib, facts.limit_gib):
        return TrialEnd.INFEASIBLE_PREDICTED
    if _exceeds(facts.inference_gib, facts.inference_budget_gib):
        return TrialEnd.INFERENCE_PREDICTED
    return None


def _passed_limit(facts: TrialFacts) -> TrialEnd | None:
    if _exceeds(facts.metrics.get(MEMORY), facts.budget_gib):
        return TrialEnd.INFEASIBLE_MEASURED
    if _exceeds(facts.metrics.get(CASE_MEDIAN), facts.seconds_per_case):
        return TrialEnd.TOO_SLOW
    return None


def _decide_stop(facts: TrialFacts, *, cut_short: bool) -> TrialEnd | None:
    if cut_short:
        return TrialEnd.TIME_LIMIT
    if facts.cut_off:
        return TrialEnd.TIME_LIMIT if facts.time_is_up else TrialEnd.INTERRUPTED
    if facts.ended:
        return TrialEnd.FINISHED if facts.result.get(FINAL) else TrialEnd.STOPPED_EARLY
    return None


def _exceeds(value: float | None, limit: float | None) -> bool:
    return value is not None and limit is not None and value > limit
