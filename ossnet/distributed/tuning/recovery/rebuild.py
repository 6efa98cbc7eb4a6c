"""A study's file made anew from Ray Tune's folder, which has what was suggested, and MLflow, which has what
came of it."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from ossnet.distributed._optuna import set_intermediate_value
from ossnet.distributed.tracking.client import TRIAL
from ossnet.distributed.tracking.names import legal_key, original_keys
from ossnet.distributed.tracking.store import TrackingConfig, open_client
from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.outcomes import OutcomeWriter
from ossnet.distributed.tuning.search_space import Space
from ossnet.distributed.tuning.storage import (
    CONFIGURATION,
    FORBIDDEN,
    METRICS,
    NETWORK_NAME,
    SEEDS,
    TRIALS_FOLDER,
    TuningStudy,
)
from ossnet.distributed.tuning.trial import TrialEnd, TrialOutcome, TrialSpec
from ossnet.metric_names import (
    ELAPSED,
    EPOCH,
    ERROR,
    INFEASIBLE,
    MEMORY,
    PREDICTED,
    STOP_REASON,
    VAL_DICE,
)
from ossnet.output.duration import counted
from ossnet.output.remote.copies import fetch_files

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

_STATES = "experiment_state-*.json"  # of Ray Tune, one a session
_WHOLE = 1000  # thousandths of a training's time
_LOST = "what was suggested is lost"


@dataclass(frozen=True)
class StudyParts:
    """What a study's file is made of."""

    name: str
    space: Space
    optimization: OptimizationConfig
    settings: Mapping[str, Any]
    """Those that are given now: what the study began with is lost."""
    tracking: TrackingConfig


def rebuild_study(parts: StudyParts, output: Path, database: Path) -> str | None:
    """Make a study's file; how many trials it has, in words, or None where too little is left.

    Trials of which MLflow does not know an end are to be resumed. Suggestions that took no slot are lost;
    each leaves its number.

    Args:
        output: the study's folder.
        database: the file to make.

    Raises:
        UserError: MLflow cannot be read.
    """
    suggested = read_suggestions(output)
    if not suggested or not parts.tracking.exists:
        return None
    client = open_client(parts.tracking.uri)
    runs = _read_runs(client, parts.tracking)
    first = next(iter(suggested.values()))
    study = TuningStudy.open_or_create(database, parts.name, parts.optimization)
    study.set_user_attr(TRIAL, first.run.removesuffix(f"-{first.number}-{first.seed}"))
    study.check_settings(parts.settings)
    for number in range(max(number for number, _ in suggested) + 1):
        seeds = {seed: each for (trial, seed), each in suggested.items() if trial == number}
        if 0 in seeds:
            _add_trial(study, parts, seeds, client, runs)
        else:
            lost = study.ask()
            lost.set_user_attr(FORBIDDEN, _LOST)
            study.tell(lost, state=TrialState.PRUNED)
    trials = study.started_trials()
    ended = sum(trial.state.is_finished() for trial in trials)
    return f"{counted(len(trials), 'trial')}, {ended} of them ended"


def read_suggestions(output: Path) -> dict[tuple[int, int], TrialSpec]:
    """What was suggested, by the number of the trial and the position of the seed, as Ray Tune keeps it."""
    folder, found = output / TRIALS_FOLDER, dict[tuple[int, int], TrialSpec]()
    fetch_files(folder, _STATES)
    for file in sorted(folder.glob(_STATES)):
        try:
            entries = [json.loads(state) for state, _ in json.loads(file.read_text())["trial_data"]]
            specs = [TrialSpec.from_dict(entry["config"]) for entry in entries]
        except (ValueError, KeyError, TypeError) as error:
            logger.warning(f"warning: {file} is ignored, as it is damaged ({type(error).__name__})")
            continue
        found |= {(spec.number, spec.seed): spec for spec in specs}
    return found


def _add_trial(
    study: TuningStudy,
    parts: StudyParts,
    seeds: Mapping[int, TrialSpec],
    client: "MlflowClient",
    runs: Mapping[str, "Run"],
) -> None:
    """Suggest again what was suggested, and end the trial as its runs say; else it stays to be resumed."""
    spec = seeds[0]
    study.enqueue_trial(dict(spec.params))
    trial = study.ask()
    parts.space(trial)
    trial.set_user_attr(NETWORK_NAME, spec.config.model.name)
    trial.set_user_attr(CONFIGURATION, spec.config_json)
    if spec.predicted_gib is not None:
        trial.set_user_attr(PREDICTED, spec.predicted_gib)
    known = {seed: runs[each.run] for seed, each in sorted(seeds.items()) if each.run in runs}
    if 0 in known:
        _add_validations(trial, spec, client, known[0].info.run_id)
    outcomes = {seed: outcome_of(run) for seed, run in known.items()}
    finished = {
        str(seed): dict(each.metrics)
        for seed, each in outcomes.items()
        if each is not None and each.end is TrialEnd.FINISHED
    }
    if finished:
        trial.set_user_attr(SEEDS, finished)
    writer = OutcomeWriter(study, parts.optimization)
    others = [each for each in outcomes.values() if each is not None and each.end is not TrialEnd.FINISHED]
    if others:
        trial.set_user_attr(METRICS, dict(others[0].metrics))
        if MEMORY in others[0].metrics:
            trial.set_user_attr(MEMORY, others[0].metrics[MEMORY])
        writer.write(trial, others[0], expected_gib=spec.predicted_gib or 0.0)
    elif len(finished) >= parts.optimization.seeds:
        writer.write_complete(trial, finished)


def outcome_of(run: "Run") -> TrialOutcome | None:
    """How a training ended, by its run in MLflow; None for one that is to be resumed."""
    tags, names = run.data.tags, original_keys(run.data.tags)
    metrics = {names.get(name, name): float(value) for name, value in run.data.metrics.items()}
    reason = tags.get(STOP_REASON)
    if run.info.status == "FINISHED":
        return TrialOutcome(TrialEnd.FINISHED, metrics) if VAL_DICE in metrics else None
    if run.info.status == "FAILED":
        return TrialOutcome(TrialEnd.FAILED, metrics, tags.get(ERROR))
    if run.info.status != "KILLED" or reason is None:
        return None
    end = TrialEnd(f"{INFEASIBLE}: {tags[INFEASIBLE]}" if reason == INFEASIBLE else reason)
    return None if end in {TrialEnd.INTERRUPTED, TrialEnd.NODE_FAILURE} else TrialOutcome(end, metrics)


def _add_validations(trial: optuna.Trial, spec: TrialSpec, client: "MlflowClient", run_id: str) -> None:
    """The validation Dice by epoch, or by thousandths of the time, as the study had it."""
    limit_s = spec.config.training.max_time_s
    history = {each.step: each.value for each in client.get_metric_history(run_id, legal_key(VAL_DICE))}
    place = {
        each.step: ceil(each.value) if limit_s is None else round(_WHOLE * each.value / limit_s)
        for each in client.get_metric_history(run_id, legal_key(EPOCH if limit_s is None else ELAPSED))
    }
    for step in sorted(history.keys() & place.keys()):
        set_intermediate_value(trial, place[step], history[step])


def _read_runs(client: "MlflowClient", tracking: TrackingConfig) -> dict[str, "Run"]:
    """The runs of the experiment that have an id of ours, by that."""
    experiment, found, token = tracking.find_experiment(client), dict[str, "Run"](), None
    while experiment is not None:
        page = client.search_runs([experiment.experiment_id], page_token=token)
        found |= {run.data.tags[TRIAL]: run for run in page if TRIAL in run.data.tags}
        token = page.token
        if not token:
            break
    return found
