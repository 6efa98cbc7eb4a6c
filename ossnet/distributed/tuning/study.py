"""Ray Tune over a search space: Optuna suggests, trials that fall behind are stopped, MLflow keeps it all."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossnet.config import Config
from ossnet.config_tree import defaults, flatten
from ossnet.data import Store
from ossnet.distributed._ray import forward_no_credentials, raised_as_they_were
from ossnet.distributed.cluster.capacity import CapacityReport
from ossnet.distributed.cluster.nodes import avoiding
from ossnet.distributed.cluster.placement_groups import PlacementGroupCleanup
from ossnet.distributed.cluster.release import released_on_error
from ossnet.distributed.cluster.resources import TrialPlacement
from ossnet.distributed.data.store_handle import StoreHandle
from ossnet.distributed.tracking.actor import mlflow_run, version_tags
from ossnet.distributed.tracking.client import RunSpec, TrackingConfig
from ossnet.distributed.tracking.description import NOTE, dataset_of, describe, store_name
from ossnet.distributed.tuning.callbacks import (
    FullGpuOnRetry,
    MLflowCallback,
    SaveOnInterrupt,
    StudyMetrics,
    trial_folder,
)
from ossnet.distributed.tuning.config import DEFAULT_TRIALS, EarlyStoppingConfig, OptimizationConfig
from ossnet.distributed.tuning.early_stopping.scheduler import EarlyStoppingScheduler, learning_curves
from ossnet.distributed.tuning.final.ensemble import choose_ensemble
from ossnet.distributed.tuning.final.refit import refit_best, unfinished_refit
from ossnet.distributed.tuning.final.registration import fetch_logged, register_best
from ossnet.distributed.tuning.monitor import TrialMonitor
from ossnet.distributed.tuning.progress.reporter import ProgressReporter
from ossnet.distributed.tuning.recovery.database import StudyCopy, keep_copy
from ossnet.distributed.tuning.recovery.runs import reconcile_runs
from ossnet.distributed.tuning.result import StudyResult
from ossnet.distributed.tuning.search_space import Space
from ossnet.distributed.tuning.searcher import StudySearch
from ossnet.distributed.tuning.storage import (
    DATABASE,
    HELPERS,
    SPACE,
    TRIALS_FOLDER,
    TuningStudy,
    remove_unfinished,
)
from ossnet.distributed.tuning.trainable import StudyContext, train_in_process, train_with_ray
from ossnet.distributed.tuning.trial import TrialSpec
from ossnet.distributed.tuning.warm_start import STUDY_FILE
from ossnet.errors import UserError
from ossnet.metric_names import CHECKPOINT_FOLDER, SCORE, STORE, TITLE, VAL_DICE
from ossnet.output.atomic_write import disk_fault
from ossnet.output.interruption import Interruption, postponed
from ossnet.output.progress import progress
from ossnet.output.remote.copies import location_of
from ossnet.output.waiting import PATIENCE, Patience
from ossnet.planning.configure.fingerprint import Fingerprint
from ossnet.planning.configure.planner import Planner
from ossnet.planning.estimator import PeakEstimator
from ossnet.planning.study_time import StudyTime, TrialTime

if TYPE_CHECKING:
    from ray.actor import ActorHandle
    from ray.tune import Callback, PlacementGroupFactory, Tuner

    from ossnet.distributed.tracking.client import Tracker

logger = logging.getLogger(__name__)

MOST_LOSSES = 2
"""How often a trial starts again from its checkpoint when its process is gone."""

_OVERDUE_S = 8.0  # after which trials are killed that should have ended by themselves
_STUCK_S = 10.0  # beyond its grace, after which an interrupted study ends wherever it is
_FREE = ("data.", "training.checkpoint_")  # settings whose name begins so may change


@dataclass(frozen=True)
class StudySpec:
    """A study to run."""

    name: str
    space: Space
    base: Config
    """The values that the space does not decide."""
    store: Store
    output: Path
    """Folder of the study; an absolute path, as workers have other working directories."""
    tracking: TrackingConfig
    trials: int | None
    """Configurations to try; None: as many as the time allows, ten where it is not limited."""
    workers: int = 1
    """Training processes of each trial."""
    early_stopping: EarlyStoppingConfig = field(default_factory=EarlyStoppingConfig)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    planner: Planner | None = None
    """Resolves each trial's configuration; without one it is `base` with what the space decides."""
    max_time_s: float | None = None
    """Time for everything, from `began`."""
    began: float = field(default_factory=time.time)
    """Unix time at which the job began."""
    timed: bool = True
    """Whether the time, where it is limited, says how long a trial is trained; else its epochs do."""
    warm_start: str | None = None
    """MLflow experiment whose last study the sampler learns from."""
    resume: bool = False
    """Continue the study in `output`."""
    refit: bool = True
    """Train the best network on in the end, in a part of `max_time_s`, where that is limited."""
    ensemble: int | None = None
    """Choose an ensemble of at most so many of the best checkpoints."""
    patience: Patience = PATIENCE

    def __post_init__(self) -> None:
        """Reject an ensemble of less than two.

        Raises:
            UserError: names the option.
        """
        if self.ensemble is not None and self.ensemble < 2:
            raise UserError("ensemble", expected="at least 2 networks", found=str(self.ensemble))

    @property
    def database(self) -> Path:
        """SQLite file of Optuna's study."""
        return self.output / DATABASE

    @property
    def resolving(self) -> Planner:
        """The planner of the trials' configurations."""
        if self.planner is not None:
            return self.planner
        dataset = Fingerprint.of(self.store, fold=self.base.training.fold)
        return Planner.around(self.base, dataset, workers=self.workers)

    def documents(self) -> dict[str, str]:
        """Texts stored with the study's run, by file name."""
        return {
            **self.space.helpers,
            self.space.path.name: self.space.source,
            "config.json": self.base.to_json(),
        }

    def settings(self) -> dict[str, Any]:
        """Settings that may not change when the study is resumed; trials, time, caches and how often
        checkpoints are saved may."""
        base = {name: value for name, value in self.base.flatten().items() if not name.startswith(_FREE)}
        return {
            SPACE: self.space.source,
            HELPERS: self.space.helpers,
            "workers": self.workers,
            "recipe": self.resolving.recipe,
            **flatten(self.optimization),
            **flatten(self.early_stopping, "early_stopping."),
            **base,
        }

    def default_settings(self) -> dict[str, Any]:
        """The values that settings had before they could be given, where a study began without them."""
        optimization, early_stopping = OptimizationConfig(), EarlyStoppingConfig()
        options = {**flatten(optimization), **flatten(early_stopping, "early_stopping.")}
        return {**defaults(self.base), **options}

    def continues_refit(self, study: TuningStudy) -> bool:
        """Whether the last training was interrupted, and continues where the search would."""
        return self.refit and unfinished_refit(study) is not None

    def check_output(self) -> None:
        """Reject a folder with a study in it; to resume, one without.

        Raises:
            UserError: names the folder.
        """
        if self.resume and not self.database.is_file():
            raise UserError(
                self.output, expected="a study to resume", found=f"no {DATABASE}", remedy="leave out --resume"
            )
        if not self.resume and self.database.exists():
            raise UserError(
                self.output,
                expected="a new folder",
                found=f"a study ({DATABASE})",
                remedy="continue it by --resume, or give another --output",
            )


def run_study(
    spec: StudySpec,
    study: TuningStudy,
    tracker: "ActorHandle[Tracker]",
    *,
    placement: TrialPlacement,
    estimator: PeakEstimator,
    time_limit: StudyTime | None,
    report: Callable[[], Path],
) -> StudyResult:
    """Run a study to its end, or continue one that was left.

    `spec.output` gets the Optuna study (`study.db`), Ray Tune's folder and the best trial's `checkpoint`. The
    page that `report` writes is kept with the study's run, the network in the Model Registry by the study's
    name.

    Raises:
        UserError: no trial came to a result (with the first reason).
    """
    from mlflow.exceptions import MlflowException

    trial_time = study.trial_time()
    monitor = TrialMonitor(
        budget_gib=spec.optimization.budget_gib,
        seconds_per_case=spec.optimization.seconds_per_case,
        time_limit=time_limit,
    )
    searcher = StudySearch(spec, study, monitor, placement=placement, estimator=estimator)
    scheduler = EarlyStoppingScheduler(
        spec.early_stopping,
        monitor,
        objectives=study.objectives,
        first_validation=_first_validation(spec, trial_time),
        epochs=spec.base.training.epochs if trial_time is None else None,
        history=learning_curves(study),
    )
    interruption = Interruption()
    fold = spec.base.training.fold
    mlflow_callback = MLflowCallback(
        tracker, monitor, version_tags(), spec.store, fold=fold, output=spec.output
    )
    reporter = ProgressReporter(study, monitor, trials=spec.trials or DEFAULT_TRIALS)
    callbacks = [
        mlflow_callback,
        reporter,
        StudyMetrics(tracker, study, monitor),
        StudyCopy(spec.output),
        CapacityReport(at_most_s=spec.patience.wait_at_most_s),
        SaveOnInterrupt(
            interruption, mlflow_callback, monitor, output=spec.output, grace_s=spec.patience.grace_s
        ),
    ]
    with mlflow_run(tracker, _parent_run(spec, study), spec.documents()) as run:
        tracker.log_input.remote(study.parent_run_key, dataset_of(spec.store, fold=fold))
        if spec.resume:
            reconcile_runs(study, tracker, spec.output, seeds=spec.optimization.seeds)
        if not spec.continues_refit(study):
            tuner = _tuner(spec, placement, tracker, searcher, scheduler, callbacks, time_limit)
            check = partial(monitor.node_faults.check, placement)
            with closing(reporter):
                _run_trials(spec, tuner, mlflow_callback, interruption, check)
            searcher.finalize()  # not where an error ended it: then trials can be resumed
            keep_copy(spec.output)
            reconcile_runs(study, tracker, spec.output, seeds=spec.optimization.seeds)
        result = StudyResult.of(study, spec.output, mlflow_callback.failures, partial(fetch_logged, tracker))
        if spec.refit:
            result = refit_best(spec, study, tracker, result, time_limit)
        if spec.ensemble is not None:
            result = choose_ensemble(spec, study, tracker, result, time_limit)
        try:
            with progress("writing the report"):
                page = report().read_text()
            tracker.log_text.remote(study.parent_run_key, page, "report.html")
        except (MlflowException, UserError) as error:  # what was found does not depend on it
            logger.info(f"warning: no report was written, ossnet report can do so later: {error}")
        result = replace(result, model=register_best(tracker, result, spec.name))
        run.tags = {"best": result.title, f"best {VAL_DICE}": f"{result.metrics[VAL_DICE]:.4f}"}
        run.tags[NOTE] = describe(f"best: {result.title}", spec.store, result.metrics, result.params)
        run.tags |= {} if result.checkpoint is None else {CHECKPOINT_FOLDER: str(result.checkpoint)}
    return result


def _run_trials(
    spec: StudySpec,
    tuner: "Tuner",
    mlflow_callback: MLflowCallback,
    interruption: Interruption,
    check: Callable[[], None],
) -> None:
    """Run all trials, and write what MLflow does not have yet, whatever ends them.

    Args:
        interruption: notes the first signal.
        check: rejects an end at which trials wait.
    """
    try:
        at_most_s = spec.patience.grace_s + _STUCK_S
        with released_on_error(), postponed(interruption, at_most_s=at_most_s), raised_as_they_were():
            tuner.fit()
        check()
    except BaseException as error:  # trials stay as they are, to be resumed
        mlflow_callback.on_experiment_end([])
        if disk_fault(error) or isinstance(error, UserError):
            remove_unfinished(spec.output)
        raise
    finally:
        mlflow_callback.flush()


def _first_validation(spec: StudySpec, trial_time: TrialTime | None) -> int:
    """When a trial is compared first: an epoch, or thousandths of its time."""
    if trial_time is None:
        return spec.base.training.validate_every
    return round(1000 * min(trial_time.rungs, default=1.0))


def resources_for(
    placement: TrialPlacement, config: Mapping[str, Any]
) -> "dict[str, float] | PlacementGroupFactory":
    """Ray's resource request of a trial with this configuration of Ray Tune."""
    from ray.tune import PlacementGroupFactory

    spec = TrialSpec.from_dict(config)
    resources = placement.resources_for(spec.expected_gib).as_ray()
    selector = avoiding(spec.avoid)
    return (
        resources
        if selector is None
        else PlacementGroupFactory([resources], bundle_label_selector=[selector])
    )


def _tuner(
    spec: StudySpec,
    placement: TrialPlacement,
    tracker: "ActorHandle[Tracker]",
    searcher: StudySearch,
    scheduler: EarlyStoppingScheduler,
    callbacks: list["Callback"],
    time_limit: StudyTime | None,
) -> "Tuner":
    from ray import tune

    forward_no_credentials()
    nested = spec.workers > 1
    callbacks = [*callbacks, PlacementGroupCleanup() if nested else FullGpuOnRetry(placement)]
    context = StudyContext(
        store=StoreHandle.of(spec.store, spec.base.data),
        output=location_of(spec.output),
        tracker=tracker,
        tracking=spec.tracking,
        placement=placement,
    )
    trainable = tune.with_parameters(train_with_ray if nested else train_in_process, context=context)
    # a nested trial itself holds (almost) nothing, or trials would take the CPUs their own workers wait for
    resources = {"CPU": 0, "memory": 1} if nested else partial(resources_for, placement)
    return tune.Tuner(
        tune.with_resources(trainable, resources),
        tune_config=tune.TuneConfig(
            num_samples=-1,  # the searcher decides when to end
            search_alg=searcher,
            scheduler=scheduler,
            max_concurrent_trials=placement.concurrent,  # or each waits for the process of the one before
            reuse_actors=not nested,  # the process of a stopped nested trial cannot be used again
            time_budget_s=None
            if time_limit is None
            else max(time_limit.trials_remaining_s + _OVERDUE_S, 1.0),
            trial_dirname_creator=trial_folder,
        ),
        run_config=tune.RunConfig(
            name=TRIALS_FOLDER,
            storage_path=location_of(spec.output),
            verbose=0,
            callbacks=callbacks,
            failure_config=tune.FailureConfig(max_failures=MOST_LOSSES),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=2, checkpoint_score_attribute=SCORE),
        ),
    )


def _parent_run(spec: StudySpec, study: TuningStudy) -> RunSpec:
    params = {
        "space": spec.space.path.name,
        "trials": spec.trials,
        "workers": spec.workers,
        "max_time_s": spec.max_time_s,
        "refit": spec.refit,
        "ensemble": spec.ensemble,
        **flatten(spec.optimization),
        **flatten(spec.early_stopping, "early_stopping."),
    }
    tags = version_tags() | {STUDY_FILE: str(spec.database.absolute()), STORE: str(spec.store.root)}
    tags |= {TITLE: spec.name, NOTE: describe(f"search of {spec.space.path.stem}", spec.store)}
    name = f"{spec.name}, {store_name(spec.store)}"
    return RunSpec(id=study.parent_run_key, name=name, params=params, tags=tags)
