"""Launching a run or a study on a cluster from a job's options: connect, open the store of runs, run,
close."""

import json
import logging
import uuid
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ossnet import schemas
from ossnet.config import Config
from ossnet.data import Store
from ossnet.data.store.split_warnings import split_warnings
from ossnet.distributed.cluster.connection import output_root
from ossnet.distributed.cluster.nodes import min_gpu_memory_gib, nodes
from ossnet.distributed.cluster.resources import (
    Workers,
    describe_workers,
    fewest,
    most,
    plan_run,
    plan_trials,
)
from ossnet.distributed.doctor import connect_checked
from ossnet.distributed.tracking.actor import mlflow_run, start_tracker, version_tags
from ossnet.distributed.tracking.client import RunSpec, TrackingConfig
from ossnet.distributed.tracking.description import NOTE, dataset_of, describe, store_name
from ossnet.errors import UserError
from ossnet.metric_names import CHECKPOINT_FOLDER, STORE, TITLE
from ossnet.output.atomic_write import atomic_write
from ossnet.output.claim import claim_output, claimed_output, job_folder
from ossnet.output.duration import counted
from ossnet.output.progress import progress
from ossnet.output.remote.copies import fetch_input
from ossnet.output.waiting import PATIENCE, Patience
from ossnet.planning.study_time import TrialTime, most_epochs
from ossnet.sampling.sampler import check_batch
from ossnet.training.checkpoint_files import CHECKPOINT, check_replaceable
from ossnet.training.initialize import Initialization, TrainedNetwork

if TYPE_CHECKING:
    from ossnet.distributed.training.trainer import TrainResult
    from ossnet.distributed.tuning.result import StudyResult
    from ossnet.distributed.tuning.storage import TuningStudy
    from ossnet.distributed.tuning.study import StudySpec
    from ossnet.planning.configure.planner import Resolved

logger = logging.getLogger(__name__)


RECIPE = "recipe.json"
"""What was chosen for a run, in its folder: values and reasons."""
_FREE = {  # may change between a run and its resumption
    "training.epochs",
    "training.max_time_s",
    "training.checkpoint_every",
    "training.checkpoint_minutes",
}
_CLOSING_S = 6.0  # what follows the training: the best checkpoint is copied, runs are closed, Ray ends


def with_limits(config: Config, store: Store, *, epochs: int | None, max_time_s: float | None) -> Config:
    """The configuration with its end given in epochs, in seconds or both; a time alone lifts the other."""
    if max_time_s is not None and epochs is None:
        epochs = most_epochs(config, store, max_time_s)
    changes = {"training.epochs": epochs, "training.max_time_s": max_time_s}
    return config.replace({path: value for path, value in changes.items() if value is not None})


def resolve_output(output: Path, job: str, experiment: str) -> tuple[Path, TrackingConfig]:
    """The folder of a job and its store of runs; relative ones lie in `output_root()`.

    Raises:
        UserError: as `job_folder`.
    """
    root = output_root()
    return root / job_folder(output, job), TrackingConfig.at(root, experiment)


def launch_training(
    config: Config,
    store: Store,
    *,
    output: Path,
    workers: Workers,
    tracking: TrackingConfig,
    resume: bool,
    resolved: "Resolved | None" = None,
    deadline: float | None = None,
    patience: Patience = PATIENCE,
) -> "TrainResult":
    """Train one network.

    Args:
        workers: their number, or the fewest and the most: then they come and go with the cluster's nodes.
        resolved: how the configuration came about, which is printed and kept with the run.
        deadline: unix time by which all has to have ended.
        patience: how long it waits.

    Raises:
        UserError: `output` is not a training's or cannot be written, or holds a run (to resume, none or
            another one); the workers can never be placed; the store and the configuration do not go together;
            the time does not suffice for one step and one validated case.
    """
    if config.training.initialize_from is not None and not resume:
        trained = TrainedNetwork.read(fetch_input(Path(config.training.initialize_from)))
        logger.info(str(Initialization.plan(trained, config.model, store.task)))
    wait_s = patience.for_output_s
    with claimed_output(output, "train", sources=store.folders, wait_at_most_s=wait_s):
        check_replaceable(output / CHECKPOINT)
        return train_in(
            config,
            store,
            output,
            workers,
            tracking,
            resolved,
            resume=resume,
            deadline=deadline,
            patience=patience,
        )


def train_in(
    config: Config,
    store: Store,
    output: Path,
    workers: Workers,
    tracking: TrackingConfig,
    resolved: "Resolved | None",
    *,
    resume: bool,
    deadline: float | None,
    patience: Patience,
    study: str | None = None,
) -> "TrainResult":
    """Train one network in a folder that this job has claimed.

    Args:
        study: id of the run in the tracker that this one's is a child of, as that of one fold.
    """
    config = config.resolve_for(store)
    cases = store.split("training", fold=config.training.fold)
    check_batch(len(cases), config.training.batch_size, most(workers))
    warn_of_splits(store, config.training.fold)
    run_id = _run_id(config, output, resume=resume)
    from ossnet.distributed.cluster.capacity import wait_for_capacity
    from ossnet.distributed.data.store_handle import StoreHandle
    from ossnet.distributed.training.progress import training_progress
    from ossnet.distributed.training.trainer import TrainSpec, fit

    with connect_checked(output):
        resources = plan_run(nodes(), workers)
        logger.info(f"{config.model.name} on {describe_workers(workers)} of {resources}; files in {output}")
        wait_for_capacity(resources, fewest(workers), at_most_s=patience.wait_at_most_s)
        tags = version_tags() | {
            "network": config.model.name,
            "workers": "-".join(map(str, sorted({fewest(workers), most(workers)}))),
            STORE: str(store.root),
        }
        title = config.model.name if study is None else f"{config.model.name}, fold {config.training.fold}"
        tags |= {TITLE: title, NOTE: describe(title, store)}
        name = f"{title}, {store_name(store)}"
        spec = RunSpec(id=run_id, name=name, params=config.flatten(), tags=tags)
        documents = {"config.json": config.to_json(), **_recipe(resolved, output)}
        with (
            start_tracker(tracking, output, study) as tracker,
            mlflow_run(tracker, spec, documents) as run,
            training_progress(tracker, run_id, config.training, workers, deadline=deadline),
        ):
            tracker.log_input.remote(run_id, dataset_of(store, fold=config.training.fold))
            job = TrainSpec(
                config=config.to_json(),
                store=StoreHandle.of(store, config.data),
                run=run_id,
                tracker=tracker,
                tracking=tracking,
                deadline=None if deadline is None else deadline - _CLOSING_S,
                grace_s=patience.grace_s,
            )
            result = fit(
                config,
                store,
                output=output,
                job=job,
                workers=workers,
                resources=resources,
                wait_at_most_s=patience.wait_at_most_s,
            )
            run.checkpoint = result.checkpoint
            note = describe(title, store, result.metrics)
            run.tags = {CHECKPOINT_FOLDER: str(result.checkpoint), NOTE: note}
    return result


def warn_of_splits(store: Store, fold: int | None) -> None:
    """Log what of a store's splits makes a training say little."""
    for warning in split_warnings(store, fold=fold):
        logger.warning(f"warning: {warning}")


def _recipe(resolved: "Resolved | None", output: Path) -> dict[str, str]:
    """Print what was chosen, and write it to the run's folder; the file's text by its name."""
    if resolved is None or not resolved.choices:
        return {}
    logger.info(str(resolved))
    text = json.dumps(resolved.to_dict(), indent=2)
    output.mkdir(parents=True, exist_ok=True)
    atomic_write(output / RECIPE, text)
    return {RECIPE: text}


def launch_study(spec: "StudySpec") -> "StudyResult":
    """Search a space.

    Raises:
        UserError: `spec.output` is not a study's or cannot be written, holds a study already (or, to resume,
            none or another one); a fault in the space file; a trial can never be placed or fit, or none came
            to a result.
    """
    from ossnet.distributed.tuning.storage import storage_errors

    wait_s = spec.patience.for_output_s
    with claimed_output(spec.output, "tune", sources=spec.store.folders, wait_at_most_s=wait_s):
        check_replaceable(spec.output / CHECKPOINT)
        with storage_errors(spec.database):
            return _search(spec)


def _search(spec: "StudySpec") -> "StudyResult":
    from ossnet.distributed.cluster.capacity import wait_for_capacity
    from ossnet.distributed.pace import measure_pace, plan_time
    from ossnet.distributed.tuning.config import DEFAULT_TRIALS
    from ossnet.distributed.tuning.feasibility import log_feasibility
    from ossnet.distributed.tuning.recovery.database import keep_copy, recover_database
    from ossnet.distributed.tuning.recovery.rebuild import StudyParts, rebuild_study
    from ossnet.distributed.tuning.search_space import check_space
    from ossnet.distributed.tuning.storage import TuningStudy
    from ossnet.distributed.tuning.study import run_study
    from ossnet.distributed.tuning.warm_start import load_previous_study, transfer_trials
    from ossnet.planning.estimator import PeakEstimator

    warn_of_splits(spec.store, spec.base.training.fold)
    parts = StudyParts(spec.name, spec.space, spec.optimization, spec.settings(), spec.tracking)
    rebuild = partial(rebuild_study, parts, spec.output)
    recover_database(spec.output, resume=spec.resume, rebuild=rebuild)
    spec.check_output()
    with progress("checking the space"):
        check_space(spec.space, spec.resolving, spec.store, fold=spec.base.training.fold)
    earlier = None
    if spec.warm_start is not None:
        earlier = load_previous_study(replace(spec.tracking, experiment=spec.warm_start))
    estimator = PeakEstimator(spec.workers)
    if not spec.resume:
        planner = replace(spec.resolving, estimator=estimator)
        with progress("estimating what fits"):
            log_feasibility(spec.space, planner, spec.optimization, estimator.inference_gib)
    with connect_checked(spec.output):
        placement = plan_trials(nodes(), spec.workers, gpu_gib=min_gpu_memory_gib())
        if spec.planner is not None and spec.planner.recipe == "auto":
            logger.info(str(replace(spec.planner, budget_gib=None).resolve()))
        pace = measure_pace(spec, replace(spec.resolving, estimator=estimator), placement)
        limit = plan_time(spec, slots=placement.concurrent, pace=pace)
        spec.output.mkdir(parents=True, exist_ok=True)
        study = TuningStudy.open_or_create(spec.database, spec.name, spec.optimization)
        study.check_settings(spec.settings(), spec.default_settings())
        if limit is not None and limit.timed:
            study.plan_trial_time(TrialTime.of(limit.allocation))
        plan = counted(spec.trials or DEFAULT_TRIALS, "trial")
        if limit is not None:
            limit = replace(limit, timed=study.trial_time() is not None)
        if limit is not None and limit.timed:
            plan = ("" if pace is None else f"{pace}; ") + str(limit.allocation)
            if spec.trials is None:
                ended = [trial for trial in study.started_trials() if trial.state.is_finished()]
                spec = replace(spec, trials=len(ended) + limit.allocation.trials)
        if spec.continues_refit(study):
            plan = "the last training goes on"
        logger.info(f"{plan}; {placement}; files in {spec.output}")
        if earlier is not None and not spec.resume:
            inside, outside = transfer_trials(study, earlier, spec.space, spec.optimization)
            logger.info(
                f"{inside} trials of {spec.warm_start} are transferred, {outside} lie outside the space"
            )
        smallest = placement.resources_for(0.0)
        wait_for_capacity(smallest, spec.workers, at_most_s=spec.patience.wait_at_most_s)
        key = study.parent_run_key
        keep_copy(spec.output)  # with the key, by which its runs are found
        with start_tracker(spec.tracking, spec.output, key) as tracker:
            return run_study(
                spec,
                study,
                tracker,
                placement=placement,
                estimator=estimator,
                time_limit=limit,
                report=lambda: write_report(spec, study),
            )


def write_report(spec: "StudySpec", study: "TuningStudy") -> Path:
    """Write the report of a study to its folder; the path of its page."""
    from ossnet.distributed.reports.page import summarize_study, write_files
    from ossnet.distributed.reports.runs import read_rows

    output = claim_output(spec.output / "report", "report")
    rows = read_rows(spec.tracking)
    summary = summarize_study(study, rows, spec.output)
    return write_files(rows, output, title=spec.name, study=summary)["page"]


def _run_id(config: Config, output: Path, *, resume: bool) -> str:
    """The id of the run in `output`, made anew unless it is resumed."""
    path = output / "config.json"
    if not resume:
        if path.exists():
            raise UserError(
                output,
                expected="a new folder",
                found="a run (config.json)",
                remedy="continue it by --resume, or give another --output",
            )
        return uuid.uuid4().hex
    if not path.is_file():
        raise UserError(
            output, expected="a run to resume", found="no config.json", remedy="leave out --resume"
        )
    run = json.loads((output / "run.json").read_text())
    if run.get("schema") != schemas.RUN:
        raise UserError(
            output / "run.json",
            expected=f"a run of schema {schemas.RUN}",
            found=f"schema {run['schema']}" if "schema" in run else "one without a schema",
            remedy="train anew with another --output",
        )
    before, now = Config.from_json(path).flatten(), config.flatten()
    for name in sorted({*before, *now} - _FREE):
        if not name.startswith("data.") and before.get(name) != now.get(name):
            raise UserError(
                f"{output}, {name}",
                expected=f"{before.get(name)} as the run began",
                found=f"{now.get(name)}",
                remedy="give the same options, or another --output",
            )
    return str(run["id"])
