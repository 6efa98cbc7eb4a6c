"""Warm start: the trials of an earlier study, transferred to a new one for its sampler to learn from."""

from contextlib import suppress
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from ossnet.distributed._optuna import constraint_attributes, contains
from ossnet.distributed.tracking.store import TrackingConfig, open_client
from ossnet.distributed.tuning.config import VIOLATION, OptimizationConfig
from ossnet.distributed.tuning.search_space import Space
from ossnet.distributed.tuning.storage import END, FORBIDDEN, METRICS, TRANSFERRED, TuningStudy, end_of
from ossnet.distributed.tuning.trial import TrialEnd
from ossnet.errors import UserError
from ossnet.metric_names import MEMORY

STUDY_FILE = "study/database"
"""Tag of a study's run: the path of its Optuna study."""
_SAMPLES = 64


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
    """Convert a trial to this study's objectives and budget; what does not fit is infeasible now."""
    metrics = trial.user_attrs.get(METRICS, {})
    peak = float(metrics.get(MEMORY, trial.user_attrs.get(MEMORY, 0.0)))
    excess = peak - optimization.budget_gib if optimization.budget_gib is not None else 0.0
    end = end_of(trial)
    finished = trial.state == TrialState.COMPLETE and end is TrialEnd.FINISHED
    if excess > 0 and end is not TrialEnd.OUT_OF_MEMORY:
        end = TrialEnd.INFEASIBLE_MEASURED
    elif end is not None and end.is_infeasible and end is not TrialEnd.OUT_OF_MEMORY:
        end = TrialEnd.STOPPED_EARLY  # it fits the budget of this study
    return create_trial(
        state=TrialState.COMPLETE if finished else TrialState.PRUNED,
        values=optimization.values(trial.values[0], peak) if finished else None,
        params=trial.params,
        distributions={name: distributions[name] for name in trial.params},
        intermediate_values=trial.intermediate_values,
        user_attrs={TRANSFERRED: True, VIOLATION: excess, METRICS: metrics, END: end},
        system_attrs=constraint_attributes(excess),
    )
