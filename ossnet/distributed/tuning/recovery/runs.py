"""MLflow's runs of a study, brought to what the study knows: a driver that is killed leaves some running."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.trial import FrozenTrial

from ossnet.distributed.tuning.recovery.checkpoint import trained_checkpoint
from ossnet.distributed.tuning.storage import SEEDS, TuningStudy, end_of
from ossnet.distributed.tuning.trial import TrialEnd, TrialOutcome
from ossnet.metric_names import ERROR
from ossnet.output.duration import counted

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from ossnet.distributed.tracking.client import Tracker

logger = logging.getLogger(__name__)

_TIMEOUT_S = 60.0  # of MLflow's answer
_CONFIG = "config.json"
_WHOLE = {TrialEnd.FINISHED, TrialEnd.TIME_LIMIT}


@dataclass(frozen=True)
class Training:
    """A training of a study, as the study knows it."""

    number: int
    seed: int
    run: str
    """Its id in the tracker."""
    outcome: TrialOutcome
    """One that has not ended counts as interrupted."""


def reconcile_runs(study: TuningStudy, tracker: "ActorHandle[Tracker]", output: Path, *, seeds: int) -> int:
    """Close the runs whose status is another than the study's; the number of those that were changed.

    Those of trainings that came to a result get their checkpoints, too, where they lack them. Where MLflow
    does not answer, a line says so.

    Args:
        output: the study's folder.
        seeds: trainings of each trial.
    """
    import ray

    all_trainings = trainings(study, seeds=seeds)
    try:
        statuses: dict[str, str] = ray.get(tracker.statuses.remote(), timeout=_TIMEOUT_S)
        whole = [each.run for each in all_trainings if each.run in statuses and each.outcome.end in _WHOLE]
        lacking: list[str] = ray.get(tracker.without_checkpoint.remote(whole), timeout=_TIMEOUT_S)
    except (ray.exceptions.RayError, ray.exceptions.GetTimeoutError) as error:
        reason = str(error).strip().splitlines()[-1]
        logger.warning(f"warning: the runs in MLflow were not compared with the study: {reason}")
        return 0
    corrected = set[str]()
    for each in all_trainings:
        if each.run in statuses and statuses[each.run] != each.outcome.status:
            tracker.correct_status.remote(each.run, each.outcome.status, each.outcome.tags())
            corrected.add(each.run)
        if each.run in lacking and _store_checkpoint(each, tracker, output):
            corrected.add(each.run)
    if corrected:
        logger.info(f"{counted(len(corrected), 'run')} in MLflow brought to what the study knows")
    return len(corrected)


def _store_checkpoint(training: Training, tracker: "ActorHandle[Tracker]", output: Path) -> bool:
    """Store the checkpoint of a training that came to a result; False where it left none."""
    end = training.outcome.end
    checkpoint = trained_checkpoint(output, training.number, training.seed, training.run, end)
    if checkpoint is None:
        return False
    tracker.log_text.remote(training.run, (checkpoint / _CONFIG).read_text(), _CONFIG)
    tracker.log_checkpoint.remote(training.run, checkpoint)
    return True


def trainings(study: TuningStudy, *, seeds: int) -> list[Training]:
    """The trainings of all trials that took a slot."""
    return [
        Training(trial.number, seed, study.run_id(trial.number, seed), _outcome(trial, seed))
        for trial in study.started_trials()
        for seed in range(seeds)
    ]


def _outcome(trial: FrozenTrial, seed: int) -> TrialOutcome:
    """How a training of a trial ended; the trial's end where that is not another seed's."""
    end = end_of(trial)
    if str(seed) in trial.user_attrs.get(SEEDS, {}):
        end = TrialEnd.FINISHED
    elif end in {None, TrialEnd.FINISHED}:
        end = TrialEnd.INTERRUPTED
    assert end is not None
    error = trial.user_attrs.get(ERROR) if end is TrialEnd.FAILED else None
    return TrialOutcome(end, {}, error)
