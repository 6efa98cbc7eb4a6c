"""What an earlier study found, told to the sampler of a new one."""

from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from ossnet.distributed.tracking.client import TrackingConfig
from ossnet.distributed.tuning.config import VIOLATION, OptimizationConfig
from ossnet.distributed.tuning.search_space import Space
from ossnet.distributed.tuning.storage import METRICS, WARM, TuningStudy
from ossnet.errors import UserError
from ossnet.metric_names import INFEASIBLE, MEMORY

STUDY_FILE = "study/database"
"""Tag of a study's run: where its Optuna study lies."""
_DRAWS = 64


def find_study(tracking: TrackingConfig) -> TuningStudy | None:
    """The last study of an experiment whose file is still there."""
    from mlflow import MlflowClient

    if not tracking.has_experiment():
        return None
    client = MlflowClient(tracking.uri)
    experiment = client.get_experiment_by_name(tracking.experiment)
    runs = client.search_runs([experiment.experiment_id], f"tags.`{STUDY_FILE}` != ''")
    files = [Path(run.data.tags[STUDY_FILE]) for run in runs]  # the newest first
    found = next((file for file in files if file.is_file()), None)
    if found is None:
        return None
    storage = optuna.storages.RDBStorage(f"sqlite:///{found}")
    (name,) = optuna.get_all_study_names(storage)
    return TuningStudy(study_name=name, storage=storage)


def load_previous_study(tracking: TrackingConfig) -> TuningStudy:
    """The same.

    Raises:
        UserError: there is none.
    """
    found = find_study(tracking)
    if found is None:
        msg = f"experiment {tracking.experiment!r} in {tracking.uri}: found no study.db to learn from"
        raise UserError(msg)
    return found


def transfer_trials(
    notebook: TuningStudy, earlier: optuna.Study, space: Space, goals: OptimizationConfig
) -> tuple[int, int]:
    """Add the trials of an earlier study that lie in this space; how many were, and how many do not."""
    known = _distributions(space)
    ended = earlier.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    fitting = [trial for trial in ended if _in_space(known, trial)]
    for trial in fitting:
        notebook.add_trial(_convert_trial(trial, known, goals))
    return len(fitting), len(ended) - len(fitting)


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    """All that a space asks for, on any of its branches."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(_DRAWS):
        space(study.ask())
    return {name: each for trial in study.trials for name, each in trial.distributions.items()}


def _in_space(known: dict[str, BaseDistribution], trial: FrozenTrial) -> bool:
    return all(
        name in known
        and type(known[name]) is type(trial.distributions[name])
        and known[name]._contains(_internal(known[name], value))
        for name, value in trial.params.items()
    )


def _internal(distribution: BaseDistribution, value: object) -> float:
    try:
        return distribution.to_internal_repr(value)
    except ValueError:  # a choice that this space does not have
        return float("nan")


def _convert_trial(
    trial: FrozenTrial, known: dict[str, BaseDistribution], goals: OptimizationConfig
) -> FrozenTrial:
    """The same trial under this study's objectives and budget; what does not fit is infeasible now."""
    peak = float(trial.user_attrs.get(METRICS, {}).get(MEMORY, trial.user_attrs.get(MEMORY, 0.0)))
    excess = peak - goals.budget_gib if goals.budget_gib is not None else 0.0
    attributes = {WARM: True, VIOLATION: excess, METRICS: trial.user_attrs.get(METRICS, {})}
    ran = INFEASIBLE not in trial.user_attrs
    over = excess > 0 or trial.user_attrs.get(INFEASIBLE) == "out of memory"
    complete = trial.state == TrialState.COMPLETE and ran
    return create_trial(
        state=TrialState.COMPLETE if complete else TrialState.PRUNED,
        values=goals.values(trial.values[0], peak) if complete else None,
        params=trial.params,
        distributions={name: known[name] for name in trial.params},
        intermediate_values=trial.intermediate_values,
        user_attrs=attributes | ({INFEASIBLE: "in an earlier study"} if over else {}),
        system_attrs={"constraints:memory": excess},
    )
