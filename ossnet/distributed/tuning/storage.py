"""The Optuna study on disk: the one truth of a search, from which everything else can be rebuilt."""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from ossnet.distributed.tracking.client import TRIAL
from ossnet.distributed.tuning.config import VIOLATION, OptimizationConfig
from ossnet.errors import UserError
from ossnet.metric_names import INFEASIBLE

DATABASE = "study.db"
METRICS = "metrics"
"""Attribute of a trial: the last known value of each metric; over several seeds, their mean."""
SEEDS = "seeds"
"""Attribute of a trial: what each seed came to."""
SETTINGS = "settings"
NETWORK_NAME = "network"
REPEATED = "repeats"
"""Attribute of a trial that took no slot: the number of the one that tried the same before."""
ERROR = "error"
WARM = "from an earlier study"


class TuningStudy(optuna.Study):
    """A study whose stopped trials keep their intermediate values whatever the number of objectives."""

    @property
    def direction(self) -> StudyDirection:
        """Of the first objective, by which stopped trials are compared: Optuna has none for several."""
        return self.directions[0]

    @classmethod
    def at(cls, database: Path, name: str, goals: OptimizationConfig) -> "TuningStudy":
        """The study in a SQLite file, made where there is none.

        Raises:
            UserError: the file holds another one.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        storage = optuna.storages.RDBStorage(f"sqlite:///{database}")
        others = set(optuna.get_all_study_names(storage)) - {name}
        if others:
            msg = f"{database}: holds the study {others.pop()!r}, not {name!r}: give its --experiment"
            raise UserError(msg)
        optuna.create_study(
            storage=storage, study_name=name, directions=goals.directions, load_if_exists=True
        )
        return cls(study_name=name, storage=storage, pruner=optuna.pruners.NopPruner())

    @property
    def identity(self) -> str:
        """The id of the study's own run, kept here so that a resumed study finds it again."""
        known: str | None = self.user_attrs.get(TRIAL)
        if known is None:
            known = uuid.uuid4().hex
            self.set_user_attr(TRIAL, known)
        return known

    def run_id(self, number: int, seed: int) -> str:
        """The id of one training of a trial, the same in every session."""
        return f"{self.identity}-{number}-{seed}"

    def seen(self) -> list[FrozenTrial]:
        """All of this study's own trials that were suggested; not copied, only to read."""
        states = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        trials = self.get_trials(deepcopy=False, states=states)
        return [trial for trial in trials if WARM not in trial.user_attrs]

    def known(self) -> int:
        """How many feasible trials there are to learn from, those of an earlier study among them."""
        trials = self.get_trials(deepcopy=False)
        return sum(feasible(trial) and trial.state != TrialState.WAITING for trial in trials)

    def started(self) -> list[FrozenTrial]:
        """The trials that took a slot: all but those predicted to be too large, and repeated ones."""
        return [
            trial
            for trial in self.seen()
            if trial.user_attrs.get(INFEASIBLE) != "predicted" and REPEATED not in trial.user_attrs
        ]

    def tried(self, trial: optuna.Trial) -> int | None:
        """The number of an earlier trial with the same parameters, which would come to the same."""
        known = (each for each in self.started() if each.state != TrialState.FAIL)
        same = (each.number for each in known if each.number < trial.number and each.params == trial.params)
        return next(same, None)

    def unfinished(self) -> Iterator[optuna.Trial]:
        """The trials under way when the study was left, to go on with."""
        for trial in self.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            yield optuna.trial.Trial(self, trial._trial_id)

    def check_settings(self, settings: Mapping[str, Any]) -> None:
        """Note what the study is asked to do; what it began with stays.

        Raises:
            UserError: it began with something else; names it.
        """
        now = json.loads(json.dumps(dict(settings)))
        before = self.user_attrs.get(SETTINGS)
        if before is None:
            self.set_user_attr(SETTINGS, now)
            return
        for name, value in now.items():
            if before.get(name) != value:
                differ = f"has {name} {before.get(name)}, asked to resume with {value}"
                differ = "has another space file" if name == "space" else differ
                msg = f"the study {differ}: give the same options, or another --output"
                raise UserError(msg)


def report(trial: optuna.Trial, value: float, step: int) -> None:
    """Note an intermediate value; Optuna's own method refuses studies of several objectives."""
    trial.storage.set_trial_intermediate_value(trial._trial_id, step, value)


def set_constraint(trial: optuna.Trial, violation_gib: float) -> None:
    """Note by how much a trial misses the budget, for samplers of any version."""
    trial.set_user_attr(VIOLATION, violation_gib)
    if hasattr(trial, "set_constraint"):
        trial.set_constraint("memory", violation_gib)


def feasible(trial: FrozenTrial) -> bool:
    """Whether a trial kept to the budget, as far as is known."""
    return INFEASIBLE not in trial.user_attrs


def learning_curves(trials: Sequence[FrozenTrial]) -> dict[int, dict[int, float]]:
    """Validation Dice by epoch, by trial."""
    return {trial.number: dict(trial.intermediate_values) for trial in trials if trial.intermediate_values}
