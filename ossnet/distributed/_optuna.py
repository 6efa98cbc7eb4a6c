"""Private interfaces of Optuna 4 and 5 that this package cannot avoid; a contract test watches each."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

FIXED_PARAMS = "fixed_params"
"""System attribute of a trial whose parameters were enqueued."""
_CONSTRAINT = "constraints:"


def reopen_trial(study: optuna.Study, trial: FrozenTrial) -> optuna.Trial:
    """A running trial of the study as one that can be reported and ended, in another session."""
    return optuna.Trial(study, trial._trial_id)


def set_intermediate_value(trial: optuna.Trial, step: int, value: float) -> None:
    """Store an intermediate value; Optuna's own `report` rejects studies of several objectives."""
    trial.storage.set_trial_intermediate_value(trial._trial_id, step, value)


def set_metric_names(study: optuna.Study, names: Sequence[str]) -> None:
    """Name a study's objectives, as dashboards show them; Optuna warns that the function is new."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(list(names))


def metric_names(study: optuna.Study) -> tuple[str, ...]:
    """The names of a study's objectives; empty where it has none."""
    return tuple(study.metric_names or ())


def contains(distribution: BaseDistribution, value: object) -> bool:
    """Whether a distribution could have suggested a value."""
    try:
        internal = distribution.to_internal_repr(value)
    except ValueError:  # a choice that the distribution does not have
        return False
    return bool(distribution._contains(internal))


def constraint_attributes(violations: Mapping[str, float]) -> Mapping[str, Any]:
    """System attributes of a created trial that violates constraints by so much."""
    return {f"{_CONSTRAINT}{name}": value for name, value in violations.items()}
