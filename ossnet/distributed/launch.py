"""From a job's options to a run or a study on a cluster: connect, make the store of runs, go, close."""

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
from ossnet.distributed.cluster.nodes import nodes
from ossnet.distributed.cluster.resources import plan_run, plan_trials
from ossnet.distributed.tracking.actor import mlflow_run, start_tracker, version_tags
from ossnet.distributed.tracking.client import RunSpec, TrackingConfig
from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.early_stopping import EarlyStoppingConfig
from ossnet.errors import UserError
from ossnet.metric_names import EPOCH, MEMORY, STEP_TIME, VAL_DICE
from ossnet.sampling.sampler import check_batch

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from ossnet.distributed.tracking.client import Tracker
    from ossnet.distributed.training.trainer import TrainResult
    from ossnet.distributed.tuning.study import StudyResult

logger = logging.getLogger(__name__)


_LIMITS = {"training.epochs", "training.max_time_s"}  # may change between a run and its resumption
_SHOWN = ("loss/train_epoch", VAL_DICE, STEP_TIME, MEMORY)
_SHORTEST_STEP_S = 0.01  # no network of ours is faster: it bounds the epochs of a run limited by time


def limited(config: Config, store: Store, *, epochs: int | None, max_time_s: float | None) -> Config:
    """The configuration with its end given in epochs, in seconds or both; a time alone lifts the other."""
    if max_time_s is not None and epochs is None:
        cases = store.split("training", fold=config.training.fold)
        steps = len(cases) * config.training.steps_per_batch / config.training.batch_size
        epochs = ceil(max_time_s / (max(steps, 1) * _SHORTEST_STEP_S))
    changes = {"training.epochs": epochs, "training.max_time_s": max_time_s}
    return config.replace({path: value for path, value in changes.items() if value is not None})


def places(output: Path, experiment: str) -> tuple[Path, TrackingConfig]:
    """Where a job writes: its folder and the store of runs, from the workplace where they are relative."""
    root = output_root()
    return root / output, TrackingConfig.at(root, experiment)


def launch_training(
    config: Config, store: Store, *, output: Path, workers: int, tracking: TrackingConfig, resume: bool
) -> "TrainResult":
    """Train one network.

    Raises:
        UserError: `output` holds a run (or, to resume, none or another one), the workers can never be placed,
            or the store and the configuration do not go together.
    """
    config = config.resolve_for(store)
    cases = store.split("training", fold=config.training.fold)
    check_batch(len(cases), config.training.batch_size, workers)
    identity = _identity(config, output, resume=resume)
    from ossnet.distributed.training.trainer import TrainSpec, fit

    with connect():
        resources = plan_run(nodes(), workers)
        logger.info(
            f"{config.model.name} on {workers} worker{'s' * (workers > 1)} of {resources}; files in {output}"
        )
        tags = version_tags() | {"network": config.model.name, "workers": str(workers)}
        spec = RunSpec(id=identity, name=config.model.name, params=config.flatten(), tags=tags)
        documents = {"config.json": config.to_json()}
        with (
            start_tracker(tracking) as tracker,
            mlflow_run(tracker, spec, documents) as ending,
            _progress(tracker, identity),
        ):
            job = TrainSpec(
                config=config.to_json(), store=str(store.root.absolute()), run=identity, tracker=tracker
            )
            outcome = fit(config, store, output=output, job=job, workers=workers, resources=resources)
            ending.checkpoint = outcome.checkpoint
    return outcome


def launch_study(
    space: Path,
    base: Config,
    store: Store,
    *,
    name: str,
    output: Path,
    tracking: TrackingConfig,
    trials: int,
    workers: int,
    early_stopping: EarlyStoppingConfig,
    max_time_s: float | None,
    goals: OptimizationConfig | None = None,
    warm_start: str | None = None,
    resume: bool = False,
) -> "StudyResult":
    """Search a space.

    Args:
        warm_start: an experiment whose last study the sampler learns from.
        resume: go on with the study in `output`.

    Raises:
        UserError: a fault in the space file, `output` holds a study already (or, to resume, none or another
            one), a trial can never be placed or fit, or none came to a result.
    """
    from ossnet.distributed.cluster.nodes import min_gpu_memory_gib
    from ossnet.distributed.tuning.feasibility import survey
    from ossnet.distributed.tuning.search_space import Space, check_space
    from ossnet.distributed.tuning.storage import DATABASE, TuningStudy
    from ossnet.distributed.tuning.study import StudySpec, check_new, check_old, search, write_report
    from ossnet.distributed.tuning.warm_start import load_previous_study, transfer_trials
    from ossnet.planning.estimator import PeakEstimator

    goals = goals or OptimizationConfig()
    (check_old if resume else check_new)(output)
    loaded = Space(space)
    check_space(loaded, base, store, workers=workers)
    earlier = None if warm_start is None else load_previous_study(replace(tracking, experiment=warm_start))
    forecast = PeakEstimator(workers)
    if goals.budget_gib is not None and not resume:
        logger.info(str(survey(loaded, base, store, forecast, goals.budget_gib)))
    with connect():
        plan = plan_trials(nodes(), workers, gpu_gib=min_gpu_memory_gib())
        logger.info(f"{trials} trials, {plan}; files in {output}")
        study = StudySpec(
            name=name,
            space=loaded,
            base=base,
            store=store,
            output=output,
            trials=trials,
            plan=plan,
            early_stopping=early_stopping,
            goals=goals,
            max_time_s=max_time_s,
        )
        output.mkdir(parents=True, exist_ok=True)
        notebook = TuningStudy.at(output / DATABASE, name, goals)
        notebook.check_settings(study.settings())
        if earlier is not None and not resume:
            learned, passed_over = transfer_trials(notebook, earlier, loaded, goals)
            logger.info(
                f"{learned} trials of {warm_start} are learned from, {passed_over} lie outside the space"
            )
        with start_tracker(tracking, notebook.identity) as tracker:
            return search(
                study,
                notebook,
                tracker,
                forecast=forecast,
                report=lambda: write_report(tracking, study, notebook),
            )


def _identity(config: Config, output: Path, *, resume: bool) -> str:
    """The id of the run in `output`, made anew unless it is resumed."""
    path = output / "config.json"
    if not resume:
        if path.exists():
            msg = f"{output}: holds a run already: go on with it by --resume, or give another --output"
            raise UserError(msg)
        return uuid.uuid4().hex
    if not path.is_file():
        msg = f"{output}: no run to resume there (config.json is missing): leave out --resume"
        raise UserError(msg)
    before, now = Config.from_json(path).flatten(), config.flatten()
    for name in sorted({*before, *now} - _LIMITS):
        if before.get(name) != now.get(name):
            msg = (
                f"{output}: the run has {name} {before.get(name)}, asked to resume with {now.get(name)}: "
                "give the same options, or another --output"
            )
            raise UserError(msg)
    return str(json.loads((output / "run.json").read_text())["id"])


@contextmanager
def _progress(tracker: "ActorHandle[Tracker]", run: str) -> Iterator[None]:
    """Say each epoch's news while the block runs."""
    ended = threading.Event()
    thread = threading.Thread(target=_tell, args=(tracker, run, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _tell(tracker: "ActorHandle[Tracker]", run: str, ended: threading.Event) -> None:
    import ray

    told, last = 0.0, False
    while not last:
        last = ended.wait(1.0)  # and once more after the end
        try:
            news = ray.get(tracker.latest.remote(run), timeout=10)
        except ray.exceptions.RayError:
            continue
        if news.get(EPOCH, 0.0) > told:
            told = news[EPOCH]
            shown = {name: news[name] for name in _SHOWN if name in news}
            values = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
            logger.info(f"epoch {told:.0f}  {values}")
