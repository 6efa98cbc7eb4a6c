"""Warm start: the trials of an earlier study, transferred to a new one for its sampler to learn from."""

from contextlib import suppress
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from ossnet.distributed._optuna import constraint_attributes, contains
from ossnet.distributed.tracking.store import TrackingConfig, open_client
from ossnet.distributed.tuning.config import OBJECTIVES, OptimizationConfig
from ossnet.distributed.tuning.search_space import Space
from ossnet.distributed.tuning.storage import (
    END,
    FORBIDDEN,
    METRICS,
    TRANSFERRED,
    TuningStudy,
    end_of,
    violation_attributes,
)
from ossnet.distributed.tuning.trial import TrialEnd
from ossnet.errors import UserError
from ossnet.metric_names import MEMORY, PREDICTED, VAL_DICE

STUDY_FILE = "study/database"
"""Tag of a study's run: the path of its Optuna study."""
_SAMPLES = 64
_ENDS = {
    "memory": TrialEnd.INFEASIBLE_MEASURED,
    "inference": TrialEnd.INFERENCE_PREDICTED,
    "seconds": TrialEnd.TOO_SLOW,
}


def find_study(tracking: TrackingConfig) -> TuningStudy | None:
    """The last study of an experiment whose file is still there.

    Raises:
        UserError: another version of this package wrote it.
    """
    found = find_study_file(tracking)
    return None if found is None else TuningStudy.load(found)


def find_study_file(tracking: TrackingConfig) -> Path | None:
    """The file of the last study of an experiment, if it is still there."""
    if not tracking.exists:
        return None
    client = open_client(tracking.uri)
    experiment = tracking.find_experiment(client)
    if experiment is None:
        return None
    runs = client.search_runs([experiment.experiment_id], f"tags.`{STUDY_FILE}` != ''")
    files = [Path(run.data.tags[STUDY_FILE]) for run in runs]  # the newest first
    return next((file for file in files if file.is_file()), None)


def load_previous_study(tracking: TrackingConfig) -> TuningStudy:
    """The last study of an experiment, to learn from.

    Raises:
        UserError: there is none, or another version of this package wrote it.
    """
    found = find_study(tracking)
    if found is None:
        raise UserError(
            f"experiment {tracking.experiment!r} in {tracking.uri}",
            expected="a study.db to learn from",
            found="none",
            remedy="name another experiment by --warm-start",
        )
    return found


def transfer_trials(
    study: TuningStudy, earlier: optuna.Study, space: Space, optimization: OptimizationConfig
) -> tuple[int, int]:
    """Add the trials of an earlier study that lie in this space.

    Returns:
        How many were added, and how many lie outside.
    """
    distributions = _distributions(space)
    known = earlier.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    ended = [trial for trial in known if FORBIDDEN not in trial.user_attrs]
    inside = [trial for trial in ended if _in_space(distributions, trial)]
    for trial in inside:
        study.add_trial(_convert_trial(trial, distributions, optimization))
    return len(inside), len(ended) - len(inside)


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    """The distributions of all parameters of a space, on any of its branches."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(_SAMPLES):
        with suppress(optuna.TrialPruned):
            space(study.ask())
    return {name: each for trial in study.trials for name, each in trial.distributions.items()}


def _in_space(distributions: dict[str, BaseDistribution], trial: FrozenTrial) -> bool:
    return all(
        name in distributions
        and type(distributions[name]) is type(trial.distributions[name])
        and contains(distributions[name], value)
        for name, value in trial.params.items()
    )


def _convert_trial(
    trial: FrozenTrial, distributions: dict[str, BaseDistribution], optimization: OptimizationConfig
) -> FrozenTrial:
    """Convert a trial to this study's objectives and limits; what does not fit is infeasible now.

    One that finished without a value of an objective of this study becomes one that was stopped early.
    """
    attributes, metrics = trial.user_attrs, trial.user_attrs.get(METRICS, {})
    peak = attributes.get(MEMORY, attributes.get(PREDICTED, 0.0))
    known = {MEMORY: float(peak), **metrics}
    end, violations = end_of(trial), optimization.violations(known)
    comparable = all(OBJECTIVES[name].metric in {*known, VAL_DICE} for name in optimization.objectives)
    finished = trial.state == TrialState.COMPLETE and end is TrialEnd.FINISHED and comparable
    passed = [_ENDS[name] for name, excess in violations.items() if excess > 0]
    if end is not TrialEnd.OUT_OF_MEMORY:
        if passed:
            end = passed[0]
        elif end is not None and (end.is_infeasible or not comparable):
            end = TrialEnd.STOPPED_EARLY  # it fits the limits of this study
    return create_trial(
        state=TrialState.COMPLETE if finished else TrialState.PRUNED,
        values=optimization.values({**known, VAL_DICE: trial.values[0]}) if finished else None,
        params=trial.params,
        distributions={name: distributions[name] for name in trial.params},
        intermediate_values=trial.intermediate_values,
        user_attrs={TRANSFERRED: True, METRICS: metrics, END: end, **violation_attributes(violations)},
        system_attrs=constraint_attributes(violations),
    )
