"""Launching a run or a study on a cluster from a job's options: connect, open the store of runs, run,
close."""

import json
import logging
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.cluster.connection import connect, output_root
from ossnet.distributed.cluster.nodes import min_gpu_memory_gib, nodes
from ossnet.distributed.cluster.resources import plan_run, plan_trials
from ossnet.distributed.tracking.actor import mlflow_run, start_tracker, version_tags
from ossnet.distributed.tracking.client import RunSpec, TrackingConfig
from ossnet.errors import UserError
from ossnet.metric_names import EPOCH, MEMORY, STEP_TIME, VAL_DICE
from ossnet.output.claim import claim_output, claimed_output
from ossnet.sampling.sampler import check_batch
from ossnet.training.checkpoint_files import CHECKPOINT, check_replaceable

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from ossnet.distributed.tracking.client import Tracker
    from ossnet.distributed.training.trainer import TrainResult
    from ossnet.distributed.tuning.result import StudyResult
    from ossnet.distributed.tuning.storage import TuningStudy
    from ossnet.distributed.tuning.study import StudySpec

logger = logging.getLogger(__name__)


_LIMITS = {"training.epochs", "training.max_time_s"}  # may change between a run and its resumption
_SHOWN = ("loss/train_epoch", VAL_DICE, STEP_TIME, MEMORY)
_SHORTEST_STEP_S = 0.01  # no network of ours is faster: it bounds the epochs of a run limited by time


def with_limits(config: Config, store: Store, *, epochs: int | None, max_time_s: float | None) -> Config:
    """The configuration with its end given in epochs, in seconds or both; a time alone lifts the other."""
    if max_time_s is not None and epochs is None:
        cases = store.split("training", fold=config.training.fold)
        steps = len(cases) * (config.training.steps_per_batch or 1) / config.training.batch_size
        epochs = ceil(max_time_s / (max(steps, 1) * _SHORTEST_STEP_S))
    changes = {"training.epochs": epochs, "training.max_time_s": max_time_s}
    return config.replace({path: value for path, value in changes.items() if value is not None})


def resolve_output(output: Path, experiment: str) -> tuple[Path, TrackingConfig]:
    """The folder of a job and its store of runs; relative ones lie in `output_root()`."""
    root = output_root()
    return root / output, TrackingConfig.at(root, experiment)


def launch_training(
    config: Config, store: Store, *, output: Path, workers: int, tracking: TrackingConfig, resume: bool
) -> "TrainResult":
    """Train one network.

    Raises:
        UserError: `output` is not a training's or cannot be written, or holds a run (to resume, none or
            another one); the workers can never be placed; the store and the configuration do not go together.
    """
    with claimed_output(output, "train", sources=store.folders):
        check_replaceable(output / CHECKPOINT)
        return _train(config, store, output, workers, tracking, resume=resume)


def _train(
    config: Config, store: Store, output: Path, workers: int, tracking: TrackingConfig, *, resume: bool
) -> "TrainResult":
    config = config.resolve_for(store)
    cases = store.split("training", fold=config.training.fold)
    check_batch(len(cases), config.training.batch_size, workers)
    run_id = _run_id(config, output, resume=resume)
    from ossnet.distributed.data.store_handle import StoreHandle
    from ossnet.distributed.training.trainer import TrainSpec, fit

    with connect():
        resources = plan_run(nodes(), workers)
        logger.info(
            f"{config.model.name} on {workers} worker{'s' * (workers > 1)} of {resources}; files in {output}"
        )
        tags = version_tags() | {"network": config.model.name, "workers": str(workers)}
        spec = RunSpec(id=run_id, name=config.model.name, params=config.flatten(), tags=tags)
        documents = {"config.json": config.to_json()}
        with (
            start_tracker(tracking) as tracker,
            mlflow_run(tracker, spec, documents) as run,
            _progress(tracker, run_id),
        ):
            job = TrainSpec(
                config=config.to_json(), store=StoreHandle.of(store, config.data), run=run_id, tracker=tracker
            )
            result = fit(config, store, output=output, job=job, workers=workers, resources=resources)
            run.checkpoint = result.checkpoint
    return result


def launch_study(spec: "StudySpec") -> "StudyResult":
    """Search a space.

    Raises:
        UserError: `spec.output` is not a study's or cannot be written, holds a study already (or, to resume,
            none or another one); a fault in the space file; a trial can never be placed or fit, or none came
            to a result.
    """
    with claimed_output(spec.output, "tune", sources=spec.store.folders):
        check_replaceable(spec.output / CHECKPOINT)
        return _search(spec)


def _search(spec: "StudySpec") -> "StudyResult":
    from ossnet.distributed.tuning.feasibility import estimate_feasibility
    from ossnet.distributed.tuning.search_space import check_space
    from ossnet.distributed.tuning.storage import TuningStudy
    from ossnet.distributed.tuning.study import run_study
    from ossnet.distributed.tuning.warm_start import load_previous_study, transfer_trials
    from ossnet.planning.estimator import PeakEstimator

    spec.check_output()
    check_space(spec.space, spec.base, spec.store, workers=spec.workers)
    earlier = None
    if spec.warm_start is not None:
        earlier = load_previous_study(replace(spec.tracking, experiment=spec.warm_start))
    estimator, budget_gib = PeakEstimator(spec.workers), spec.optimization.budget_gib
    if budget_gib is not None and not spec.resume:
        logger.info(str(estimate_feasibility(spec.space, spec.base, spec.store, estimator, budget_gib)))
    with connect():
        placement = plan_trials(nodes(), spec.workers, gpu_gib=min_gpu_memory_gib())
        logger.info(f"{spec.trials} trials, {placement}; files in {spec.output}")
        spec.output.mkdir(parents=True, exist_ok=True)
        study = TuningStudy.open_or_create(spec.database, spec.name, spec.optimization)
        study.check_settings(spec.settings())
        if earlier is not None and not spec.resume:
            inside, outside = transfer_trials(study, earlier, spec.space, spec.optimization)
            logger.info(
                f"{inside} trials of {spec.warm_start} are transferred, {outside} lie outside the space"
            )
        with start_tracker(spec.tracking, study.parent_run_key) as tracker:
            return run_study(
                spec,
                study,
                tracker,
                placement=placement,
                estimator=estimator,
                report=lambda: write_report(spec, study),
            )


def write_report(spec: "StudySpec", study: "TuningStudy") -> Path:
    """Write the report of a study to its folder; the path of its page."""
    from ossnet.distributed.reports.page import summarize_study, write_files
    from ossnet.distributed.reports.runs import read_rows

    output = claim_output(spec.output / "report", "report")
    rows = read_rows(spec.tracking)
    summary = summarize_study(study, rows, budget_gib=spec.optimization.budget_gib)
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
    from ossnet.distributed.training.trainer import RUN_SCHEMA

    run = json.loads((output / "run.json").read_text())
    if run.get("schema") != RUN_SCHEMA:
        raise UserError(
            output / "run.json",
            expected=f"a run of schema {RUN_SCHEMA}",
            found=f"schema {run['schema']}" if "schema" in run else "one without a schema",
            remedy="train anew with another --output",
        )
    before, now = Config.from_json(path).flatten(), config.flatten()
    for name in sorted({*before, *now} - _LIMITS):
        if not name.startswith("data.") and before.get(name) != now.get(name):
            raise UserError(
                f"{output}, {name}",
                expected=f"{before.get(name)} as the run began",
                found=f"{now.get(name)}",
                remedy="give the same options, or another --output",
            )
    return str(run["id"])


@contextmanager
def _progress(tracker: "ActorHandle[Tracker]", run: str) -> Iterator[None]:
    """Log each epoch's metrics while the block runs."""
    ended = threading.Event()
    thread = threading.Thread(target=_log_epochs, args=(tracker, run, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _log_epochs(tracker: "ActorHandle[Tracker]", run: str, ended: threading.Event) -> None:
    import ray

    logged, last = 0.0, False
    while not last:
        last = ended.wait(1.0)  # and once more after the end
        try:
            metrics = ray.get(tracker.latest.remote(run), timeout=10)
        except ray.exceptions.RayError:
            continue
        if metrics.get(EPOCH, 0.0) > logged:
            logged = metrics[EPOCH]
            shown = {name: metrics[name] for name in _SHOWN if name in metrics}
            values = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
            logger.info(f"epoch {logged:.0f}  {values}")
