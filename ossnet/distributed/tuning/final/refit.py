"""The last training of a study: its best network is trained on, for the time that is set aside for it."""

import logging
import shutil
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.train import TrainingFailedError

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.cluster.nodes import nodes
from ossnet.distributed.cluster.resources import plan_run
from ossnet.distributed.data.store_handle import StoreHandle
from ossnet.distributed.tracking.actor import mlflow_run, version_tags
from ossnet.distributed.tracking.client import RunSpec
from ossnet.distributed.tracking.description import NOTE, dataset_of, describe, store_name
from ossnet.distributed.training.progress import training_progress
from ossnet.distributed.training.trainer import TrainSpec, fit
from ossnet.distributed.tuning.recovery.database import keep_copy
from ossnet.distributed.tuning.result import StudyResult, best_of
from ossnet.distributed.tuning.storage import CONFIGURATION, TuningStudy
from ossnet.distributed.tuning.trial import trial_title
from ossnet.errors import UserError
from ossnet.metric_names import CASE_MEDIAN, MEMORY, PREDICTED, STORE, TITLE, VAL_DICE
from ossnet.output.duration import format_duration
from ossnet.output.remote.copies import keep_changed, location_of
from ossnet.planning.study_time import StudyTime, most_epochs
from ossnet.training.checkpoint import is_complete, load_state
from ossnet.training.checkpoint_files import CHECKPOINT, replace_checkpoint

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from ossnet.distributed.tracking.client import Tracker
    from ossnet.distributed.tuning.study import StudySpec

logger = logging.getLogger(__name__)

REFIT = "refit"
"""Attribute of a study: its last training, as a `Refit`; tag of that training's run: the trial's number."""
FOLDER = "refit"
"""The folder of the last trainings in that of a study."""
_LEAST_S = 15.0  # that a training is worth a start with


@dataclass(frozen=True)
class Refit:
    """The last training of a study, as the study keeps it."""

    run: str
    """Its id in the tracker."""
    started: int
    """Trials that had started: after a longer search there is another last training."""
    trial: int
    """Number of the trial whose configuration it has."""
    config: str
    """Its configuration as JSON."""
    predicted_gib: float | None
    """The predicted peak of a training step."""
    ended: bool = False
    metrics: dict[str, float] | None = None
    """Its metrics once it has ended; None where it came to no result."""

    def folder(self, output: Path) -> Path:
        """The folder of the training in that of the study."""
        return output / FOLDER / f"{self.started:03d}"


def unfinished_refit(study: TuningStudy) -> Refit | None:
    """The last training that was interrupted: the search has ended, and it has yet to."""
    stored = _stored(study)
    return None if stored is None or stored.ended else stored


def refit_checkpoint(spec: "StudySpec", study: TuningStudy) -> Path | None:
    """The checkpoint of the last training, where it came to one within the study's limits."""
    refit = _stored(study)
    if refit is None or refit.metrics is None or _fault(spec, refit) is not None:
        return None
    return refit.folder(spec.output) / CHECKPOINT


def kept_metrics(study: TuningStudy, folder: Path) -> dict[str, float] | None:
    """The metrics of the last training, where the checkpoint that the study keeps is its own; else None.

    Args:
        folder: the study's.
    """
    refit, kept = _stored(study), folder / CHECKPOINT
    if refit is None or refit.metrics is None:
        return None
    own = refit.folder(folder) / CHECKPOINT
    if not (is_complete(kept) and is_complete(own)) or _dice_of(kept) != _dice_of(own):
        return None
    dice = _dice_of(own)
    return refit.metrics | ({} if dice is None else {VAL_DICE: dice})


def refit_best(
    spec: "StudySpec",
    study: TuningStudy,
    tracker: "ActorHandle[Tracker]",
    result: StudyResult,
    limit: StudyTime | None,
) -> StudyResult:
    """Train the best network on, if time is set aside for it, or continue that; keep the better checkpoint.

    It begins with the weights of the best trial, and its learning rate once more at its highest.

    The training has a folder of its own in the study's and is a child of the study's run, with the tag
    `refit`. Where it comes to no result a line says why, and the result stays as it is.
    """
    before, refit = _stored(study), unfinished_refit(study)
    if refit is None and limit is not None and _is_due(study, limit):
        refit = _plan(spec, study, limit.refit_until - time.time(), result.checkpoint)
        _store(spec, study, refit)
    if refit is not None and (limit is None or limit.refit_until - time.time() > _LEAST_S):
        logger.info(f"{result.title} is trained on{_for_how_long(limit)}")
        refit = replace(refit, metrics=_train(spec, tracker, refit, limit), ended=True)
        _store(spec, study, refit)
    ended = [each for each in (before, refit) if each is not None and each.ended]
    return _better_of(spec, result, max(ended, key=partial(_kept_dice, spec))) if ended else result


def _is_due(study: TuningStudy, limit: StudyTime) -> bool:
    """Whether time is set aside, and something was tried since the last such training."""
    before = _stored(study)
    if not limit.allocation.refit_s or limit.refit_until - time.time() < _LEAST_S:
        return False
    return before is None or before.started != len(study.started_trials())


def _for_how_long(limit: StudyTime | None) -> str:
    return "" if limit is None else f", for {format_duration(limit.refit_until - time.time())}"


def _store(spec: "StudySpec", study: TuningStudy, refit: Refit) -> None:
    """Keep it with the study, and in the study's copy, from which another machine goes on."""
    study.set_user_attr(REFIT, asdict(refit))
    keep_copy(spec.output)


def _stored(study: TuningStudy) -> Refit | None:
    stored: dict[str, Any] | None = study.user_attrs.get(REFIT)
    return None if stored is None else Refit(**stored)


def _plan(spec: "StudySpec", study: TuningStudy, time_s: float, trained: Path | None) -> Refit:
    """The best trial's configuration, with another limit of time.

    Args:
        trained: its checkpoint.
    """
    started = study.started_trials()
    best = best_of(started)
    assert best is not None  # as the study has a result
    config = Config.from_json(best.user_attrs[CONFIGURATION])
    weights = config.training.initialize_from
    if trained is not None:
        keep_changed(trained)  # to where all nodes find it
        weights = location_of(trained)
    longer = trained_on(config, spec.store, time_s, weights)
    run = f"{study.parent_run_key}-refit-{len(started)}"
    return Refit(run, len(started), best.number, longer.to_json(), best.user_attrs.get(PREDICTED))


def trained_on(config: Config, store: Store, time_s: float, weights: str | None) -> Config:
    """A trial's configuration for a further training of this time.

    Args:
        weights: where it starts: a checkpoint's folder, or its URL.
    """
    changes = {
        "training.max_time_s": time_s,
        "training.epochs": most_epochs(config, store, time_s),
        "training.initialize_from": weights,
    }
    return config.replace(changes)


def _train(
    spec: "StudySpec", tracker: "ActorHandle[Tracker]", refit: Refit, limit: StudyTime | None
) -> dict[str, float] | None:
    """The metrics of the training; None where it came to no result."""
    config = Config.from_json(refit.config)
    title = f"{trial_title(refit.trial, config.model.name)}, trained on"
    run = RunSpec(
        id=refit.run,
        name=f"{title}, {store_name(spec.store)}",
        params=config.flatten(),
        tags=version_tags()
        | {"network": config.model.name, REFIT: str(refit.trial), STORE: str(spec.store.root)}
        | {TITLE: title, NOTE: describe(title, spec.store)},
    )
    job = TrainSpec(
        config=refit.config,
        store=StoreHandle.of(spec.store, spec.base.data),
        run=run.id,
        tracker=tracker,
        tracking=spec.tracking,
        predicted_gib=refit.predicted_gib,
        deadline=None if limit is None else limit.refit_until,
        grace_s=spec.patience.grace_s,
    )
    try:
        with (
            mlflow_run(tracker, run, {"config.json": refit.config}) as closing,
            training_progress(tracker, run.id, config.training, spec.workers, deadline=job.deadline),
        ):
            tracker.log_input.remote(run.id, dataset_of(spec.store, fold=config.training.fold))
            trained = fit(
                config,
                spec.store,
                output=refit.folder(spec.output),
                job=job,
                workers=spec.workers,
                resources=plan_run(nodes(), spec.workers),
            )
            closing.checkpoint = trained.checkpoint
            closing.tags = {NOTE: describe(title, spec.store, trained.metrics)}
    except (UserError, TrainingFailedError) as error:  # what the search found does not depend on it
        reason = str(error).strip().splitlines()[-1]
        logger.warning(f"warning: the last training came to no result: {reason}")
        return None
    return {name: float(value) for name, value in trained.metrics.items() if isinstance(value, int | float)}


def _better_of(spec: "StudySpec", result: StudyResult, refit: Refit) -> StudyResult:
    """The result with the better of both checkpoints, by the validation Dice that is kept in each."""
    if refit.metrics is None:
        return result
    checkpoint = refit.folder(spec.output) / CHECKPOINT
    dice, before = _dice_of(checkpoint), _dice_of(result.checkpoint)
    fault = _fault(spec, refit)
    if fault is not None:
        return replace(result, refit=f"{fault}: not kept")
    if dice is None or (before is not None and dice <= before):
        return replace(result, refit=f"Dice {_shown(dice)}, not better: the trial's checkpoint is kept")
    with replace_checkpoint(spec.output / CHECKPOINT) as folder:
        shutil.copytree(checkpoint, folder, dirs_exist_ok=True)
    return replace(
        result,
        checkpoint=spec.output / CHECKPOINT,
        run=refit.run,
        metrics={**result.metrics, **refit.metrics, VAL_DICE: dice},
        dice=(dice,),
        refit=f"Dice {dice:.4f} instead of {_shown(before)}: its checkpoint is kept",
    )


def _fault(spec: "StudySpec", refit: Refit) -> str | None:
    """What limit a training passed; None where it kept to all. That of predicting it has with its trial."""
    metrics, limits = refit.metrics or {}, spec.optimization
    peak_gib, seconds = metrics.get(MEMORY, 0.0), metrics.get(CASE_MEDIAN, 0.0)
    if limits.budget_gib is not None and peak_gib > limits.budget_gib:
        return f"{peak_gib - limits.budget_gib:.3f} GiB over the memory budget"
    if limits.seconds_per_case is not None and seconds > limits.seconds_per_case:
        return f"{seconds:.3g} s a case, more than {limits.seconds_per_case:.3g} s"
    return None


def _kept_dice(spec: "StudySpec", refit: Refit) -> float:
    """The Dice that a training came to within the limits; -1 without one."""
    if refit.metrics is None or _fault(spec, refit) is not None:
        return -1.0
    dice = _dice_of(refit.folder(spec.output) / CHECKPOINT)
    return -1.0 if dice is None else dice


def _dice_of(checkpoint: Path | None) -> float | None:
    dice = None if checkpoint is None else load_state(checkpoint).get("dice")
    return None if dice is None else float(dice)


def _shown(dice: float | None) -> str:
    return "none" if dice is None else f"{dice:.4f}"
