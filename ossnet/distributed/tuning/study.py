"""Ray Tune over a search space: Optuna suggests, what falls behind is stopped, MLflow keeps what happened."""

import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ossnet.config import Config
from ossnet.config_tree import flatten
from ossnet.data import Store
from ossnet.distributed.cluster.gpu_sharing import FullGpuOnRetry
from ossnet.distributed.cluster.oom_patch import HostOOMMonitor
from ossnet.distributed.cluster.placement_groups import PlacementGroupCleanup
from ossnet.distributed.cluster.resources import TrialPlacement
from ossnet.distributed.reports.page import summarize_study, write_files
from ossnet.distributed.reports.runs import read_rows
from ossnet.distributed.tracking.actor import mlflow_run, version_tags
from ossnet.distributed.tracking.client import RunSpec, TrackingConfig
from ossnet.distributed.tuning.callbacks import (
    MLflowCallback,
    ProgressReporter,
    failure,
    name_of,
    trial_folder,
)
from ossnet.distributed.tuning.checkpoints import FOLDER, latest_checkpoint
from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.early_stopping import EarlyStoppingConfig
from ossnet.distributed.tuning.feasibility import PeakEstimator
from ossnet.distributed.tuning.scheduler import EarlyStoppingScheduler
from ossnet.distributed.tuning.search_space import Space
from ossnet.distributed.tuning.searcher import StudySearch
from ossnet.distributed.tuning.storage import (
    DATABASE,
    ERROR,
    METRICS,
    NETWORK_NAME,
    SEEDS,
    TuningStudy,
    learning_curves,
)
from ossnet.distributed.tuning.trainable import StudyContext, train_in_process, train_with_ray
from ossnet.distributed.tuning.trial_counts import TrialCounts, best_of, dice_of
from ossnet.distributed.tuning.warm_start import STUDY_FILE
from ossnet.errors import UserError
from ossnet.evaluation.intervals import student_interval
from ossnet.metric_names import VAL_DICE, told

if TYPE_CHECKING:
    from ray.actor import ActorHandle
    from ray.tune import Callback, Tuner

    from ossnet.distributed.tracking.client import Tracker

logger = logging.getLogger(__name__)


_LOST_TRIALS = 2  # how often a trial starts again from its checkpoint when its process is gone


@dataclass(frozen=True)
class StudySpec:
    """A study to run."""

    name: str
    space: Space
    base: Config
    """What the space does not decide."""
    store: Store
    output: Path
    trials: int
    plan: TrialPlacement
    early_stopping: EarlyStoppingConfig
    goals: OptimizationConfig = field(default_factory=OptimizationConfig)
    max_time_s: float | None = None

    @property
    def database(self) -> Path:
        """Optuna's storage."""
        return self.output / DATABASE

    def documents(self) -> dict[str, str]:
        """What is kept with the study's run: texts by file name."""
        return {"config.json": self.base.to_json(), self.space.path.name: self.space.path.read_text()}

    def settings(self) -> dict[str, Any]:
        """What may not change when it is resumed; the number of trials and the time may."""
        return {
            "space": self.space.path.read_text(),
            "workers": self.plan.workers,
            **flatten(self.goals),
            **flatten(self.early_stopping, "stopping."),
            **self.base.flatten(),
        }


@dataclass(frozen=True)
class StudyResult:
    """What a study found."""

    title: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    dice: tuple[float, ...]
    """The Dice of each seed of the best trial."""
    checkpoint: Path | None
    """Of the best trial, if it came to one; of several seeds the best one's."""
    run: str
    """The id of the training that the checkpoint is of."""
    tally: TrialCounts
    model: str | None = None
    """Where the Model Registry has it."""

    @property
    def finished(self) -> int:
        """Trials that came to their end."""
        return self.tally.finished

    @property
    def stopped(self) -> int:
        """Trials stopped early, or by a time limit."""
        return self.tally.stopped

    @property
    def failed(self) -> int:
        """Trials that came to no result."""
        return self.tally.failed

    def told(self) -> dict[str, object]:
        """For people, a line each."""
        params = ", ".join(f"{name}={value}" for name, value in self.params.items())
        counts = f"{self.finished} finished, {self.stopped} stopped early, {self.failed} failed"
        if self.tally.infeasible or self.tally.refused:
            counts += f", {self.tally.infeasible} over budget, {self.tally.refused} refused as too large"
        best = {"best trial": f"{self.title} ({params})", **told(self.metrics)}
        interval = student_interval(self.dice)
        if interval is not None:
            mean, half = f"{fmean(self.dice):.4f}", f"{interval.half_width:.4f}"
            best["Dice"] = f"{mean} ± {half} ({len(self.dice)} seeds)"
        registered = {} if self.model is None else {"registered as": self.model}
        return {**best, "checkpoint": self.checkpoint, **registered, "trials": counts}

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        trials = {
            "finished": self.finished,
            "stopped": self.stopped,
            "failed": self.failed,
            "infeasible": self.tally.infeasible,
            "refused": self.tally.refused,
        }
        best = {"name": self.title, "params": dict(self.params), "metrics": dict(self.metrics)}
        interval = student_interval(self.dice)
        half = None if interval is None else interval.half_width
        seeds = {"mean": fmean(self.dice), "half": half, "count": len(self.dice)}
        found = {"checkpoint": self.checkpoint, "model": self.model}
        return {"best": best | {"dice": seeds}, **found, "trials": trials}


def search(
    study: StudySpec,
    notebook: TuningStudy,
    tracker: "ActorHandle[Tracker]",
    *,
    forecast: PeakEstimator,
    report: Callable[[], Path],
) -> StudyResult:
    """Run a study to its end, or go on with one that was left.

    `output` gets the Optuna study (`study.db`), Ray Tune's folder and the best trial's `checkpoint`; the page
    that `report` writes is kept with the study's run, the network in the Model Registry by the study's name.

    Raises:
        UserError: no trial came to a result (with the first reason).
    """
    from mlflow.exceptions import MlflowException

    kills = HostOOMMonitor()
    searcher = StudySearch(
        study.space,
        base=study.base,
        store=study.store,
        notebook=notebook,
        goals=study.goals,
        trials=study.trials,
        concurrent=study.plan.concurrent,
        forecast=forecast,
        kills=kills,
        output=study.output,
        capacity_gib=None if study.plan.sharing is None else study.plan.sharing.capacity_gib,
    )
    budget = study.goals.budget_gib
    bookkeeper = MLflowCallback(
        tracker, version_tags(), limit_s=study.max_time_s, budget_gib=budget, kills=kills
    )
    progress = ProgressReporter(study.trials, bookkeeper.metrics, notebook, budget, study.max_time_s, kills)
    with mlflow_run(tracker, _parent(study, notebook), study.documents()) as ending:
        try:
            _tuner(study, searcher, tracker, [bookkeeper, progress], kills).fit()
        finally:
            bookkeeper.settle()
        searcher.settle()  # not where an error ended it: then trials can be resumed
        reasons = [failure(trial) for trial in bookkeeper.ended if trial.status == trial.ERROR]
        findings = _findings(notebook, study.output, reasons)
        try:
            tracker.document.remote(notebook.identity, report().read_text(), "report.html")
        except MlflowException as error:  # what was found does not depend on it
            logger.info(f"warning: no report was written, jobs/report.py can do so later: {error}")
        findings = replace(findings, model=_register(tracker, findings, study.name))
        ending.tags = {"best": findings.title, f"best {VAL_DICE}": f"{findings.metrics[VAL_DICE]:.4f}"}
    return findings


def write_report(tracking: TrackingConfig, study: StudySpec, notebook: TuningStudy) -> Path:
    """Write the report of a study to its folder; the page."""
    rows = read_rows(tracking)
    summary = summarize_study(notebook, rows, budget_gib=study.goals.budget_gib)
    return write_files(rows, study.output / "report", title=study.name, study=summary)["page"]


def check_new(output: Path) -> None:
    """Refuse a folder with a study in it.

    Raises:
        UserError: names the folder.
    """
    if (output / DATABASE).exists():
        msg = f"{output}: holds a study already ({DATABASE}): go on by --resume, or give another --output"
        raise UserError(msg)


def check_old(output: Path) -> None:
    """Refuse a folder without a study in it.

    Raises:
        UserError: names the folder.
    """
    if not (output / DATABASE).is_file():
        msg = f"{output}: no study to resume there ({DATABASE} is missing): leave out --resume"
        raise UserError(msg)


def _tuner(
    study: StudySpec,
    searcher: StudySearch,
    tracker: "ActorHandle[Tracker]",
    callbacks: list["Callback"],
    kills: HostOOMMonitor,
) -> "Tuner":
    from ray import tune

    nested = study.plan.workers > 1
    callbacks = [*callbacks, PlacementGroupCleanup() if nested else FullGpuOnRetry(study.plan)]
    setup = StudyContext(
        store=str(study.store.root), output=str(study.output), tracker=tracker, plan=study.plan
    )
    trainable = tune.with_parameters(train_with_ray if nested else train_in_process, setup=setup)
    # a nested trial itself holds (almost) nothing, or trials would take the CPUs their own workers wait for
    asks = {"CPU": 0, "memory": 1} if nested else partial(_asks, study.plan)
    return tune.Tuner(
        tune.with_resources(trainable, asks),
        tune_config=tune.TuneConfig(
            num_samples=-1,  # the searcher knows when to end
            search_alg=searcher,
            scheduler=EarlyStoppingScheduler(
                study.early_stopping,
                first=study.base.training.validate_every,
                history=learning_curves(searcher.study.started()),
                budget_gib=study.goals.budget_gib,
                kills=kills,
            ),
            reuse_actors=not nested,  # the process of a stopped nested trial cannot be used again
            time_budget_s=study.max_time_s,
            trial_dirname_creator=trial_folder,
        ),
        run_config=tune.RunConfig(
            name=FOLDER,
            storage_path=str(study.output),
            verbose=0,
            callbacks=callbacks,
            failure_config=tune.FailureConfig(max_failures=_LOST_TRIALS),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
        ),
    )


def _asks(plan: TrialPlacement, config: Mapping[str, Any]) -> dict[str, float]:
    return plan.resources_for(config["expected_gib"]).as_ray()


def _parent(study: StudySpec, notebook: TuningStudy) -> RunSpec:
    """The study's own run."""
    params = {
        "space": study.space.path.name,
        "trials": study.trials,
        "workers": study.plan.workers,
        "max_time_s": study.max_time_s,
        **flatten(study.goals),
        **flatten(study.early_stopping, "stopping."),
    }
    tags = version_tags() | {STUDY_FILE: str(study.database.absolute())}
    return RunSpec(id=notebook.identity, name=study.name, params=params, tags=tags)


def _findings(notebook: TuningStudy, output: Path, reasons: list[str]) -> StudyResult:
    """The best of the trials that finished (if none did, of those that were validated), and how many did."""
    started = notebook.started()
    best = best_of(started)
    if best is None:
        known = [str(trial.user_attrs[ERROR]) for trial in started if ERROR in trial.user_attrs]
        reason = [*reasons, *known, "it ended before the first validation"][0]
        msg = f"no trial came to a result: {reason}"
        raise UserError(msg)
    seeds: dict[str, dict[str, float]] = best.user_attrs.get(SEEDS, {})
    metrics = {VAL_DICE: dice_of(best), **best.user_attrs.get(METRICS, {})}
    seed = int(max(seeds, key=lambda each: seeds[each][VAL_DICE], default="0"))
    run = notebook.run_id(best.number, seed)
    return StudyResult(
        title=name_of(best.number, best.user_attrs[NETWORK_NAME]),
        params=best.params,
        metrics=metrics,
        dice=tuple(each[VAL_DICE] for each in seeds.values()) or (metrics[VAL_DICE],),
        checkpoint=_keep_checkpoint(latest_checkpoint(output, best.number, seed, run), output / "checkpoint"),
        run=run,
        tally=TrialCounts.of(notebook),
    )


def _keep_checkpoint(checkpoint: Path | None, target: Path) -> Path | None:
    """Copy the best trial's checkpoint aside, then to its place."""
    if checkpoint is None:
        return None
    aside = target.with_name(f".{target.name}")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(checkpoint, aside)
    shutil.rmtree(target, ignore_errors=True)
    aside.rename(target)
    return target


def _register(tracker: "ActorHandle[Tracker]", findings: StudyResult, name: str) -> str | None:
    """The address of the best network in the Model Registry."""
    import ray

    if findings.checkpoint is None:
        return None
    try:
        address: str = ray.get(tracker.register.remote(findings.run, findings.checkpoint, name))
    except ray.exceptions.RayError as error:  # what was found does not depend on it
        logger.info(f"warning: the best network was not registered: {str(error).strip().splitlines()[-1]}")
        return None
    return address
