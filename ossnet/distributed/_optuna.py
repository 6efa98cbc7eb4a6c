"""Private interfaces of Optuna 4 and 5 that this package cannot avoid; a contract test watches each."""

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

FIXED_PARAMS = "fixed_params"
"""System attribute of a trial whose parameters were enqueued."""
_CONSTRAINT = "constraints:memory"


def reopen_trial(study: optuna.Study, trial: FrozenTrial) -> optuna.Trial:
    """A running trial of the study as one that can be reported and ended, in another session."""
    return optuna.Trial(study, trial._trial_id)


def set_intermediate_value(trial: optuna.Trial, step: int, value: float) -> None:
    """Store an intermediate value; Optuna's own `report` rejects studies of several objectives."""
    trial.storage.set_trial_intermediate_value(trial._trial_id, step, value)


def contains(distribution: BaseDistribution, value: object) -> bool:
    """Whether a distribution could have suggested a value."""
    try:
        internal = distribution.to_internal_repr(value)
    except ValueError:  # a choice that the distribution does not have
        return False
    return bool(distribution._contains(internal))


def constraint_attributes(violation_gib: float) -> Mapping[str, Any]:
    """System attributes of a created trial that violates the memory constraint by so much."""
    return {_CONSTRAINT: violation_gib}
