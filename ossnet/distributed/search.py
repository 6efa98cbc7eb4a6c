"""Ray Tune over a search space: Optuna suggests, ASHA stops early, MLflow keeps what happened."""

import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.callbacks import Bookkeeper, Progress, failure, folder_name, last_checkpoint, title
from ossnet.distributed.names import EPOCH, FINAL, MISTAKE, SCORE, told
from ossnet.distributed.orphans import Sweep
from ossnet.distributed.resources import Plan
from ossnet.distributed.runs import keep_open, version_tags
from ossnet.distributed.searcher import StudySearch
from ossnet.distributed.space import Space
from ossnet.distributed.stopping import StoppingConfig, scheduler
from ossnet.distributed.tracking import TRIAL, RunSpec
from ossnet.distributed.trial import Setup, run_here, run_nested
from ossnet.errors import UserError
from ossnet.tree import flatten

if TYPE_CHECKING:
    from ray.actor import ActorHandle
    from ray.tune import Callback, Tuner

    from ossnet.distributed.tracking import Tracker

DATABASE = "study.db"
_LOST_TRIALS = 2  # how often a trial starts again from its checkpoint when its process is gone


@dataclass(frozen=True)
class Study:
    """A study to run."""

    name: str
    space: Space
    base: Config
    """What the space does not decide."""
    store: Store
    output: Path
    trials: int
    plan: Plan
    stopping: StoppingConfig
    max_time_s: float | None = None

    @property
    def database(self) -> Path:
        """Optuna's storage."""
        return self.output / DATABASE

    def documents(self) -> dict[str, str]:
        """What is kept with the study's run: texts by file name."""
        return {"config.json": self.base.to_json(), self.space.path.name: self.space.path.read_text()}


@dataclass(frozen=True)
class Findings:
    """What a study found."""

    title: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    checkpoint: Path | None
    """Of the best trial, if it came to one."""
    finished: int
    stopped: int
    failed: int

    def told(self) -> dict[str, object]:
        """For people, a line each."""
        params = ", ".join(f"{name}={value}" for name, value in self.params.items())
        counts = f"{self.finished} finished, {self.stopped} stopped early, {self.failed} failed"
        best = {"best trial": f"{self.title} ({params})", **told(self.metrics)}
        return {**best, "checkpoint": self.checkpoint, "trials": counts}

    def to_dict(self) -> dict[str, Any]:
        """For machines."""
        trials = {"finished": self.finished, "stopped": self.stopped, "failed": self.failed}
        best = {"name": self.title, "params": dict(self.params), "metrics": dict(self.metrics)}
        return {"best": best, "checkpoint": self.checkpoint, "trials": trials}


def search(study: Study, tracker: "ActorHandle[Tracker]") -> Findings:
    """Run a study to its end.

    `output` gets the Optuna study (`study.db`), Ray Tune's folder and the best trial's `checkpoint`.

    Raises:
        UserError: no trial came to a result (with the first reason).
    """
    study.output.mkdir(parents=True, exist_ok=True)
    searcher = StudySearch(
        study.space,
        base=study.base,
        store=study.store,
        database=study.database,
        name=study.name,
        metric=SCORE,
        seed=study.base.training.seed,
    )
    bookkeeper = Bookkeeper(tracker, version_tags(), limit_s=study.max_time_s)
    callbacks = [bookkeeper, Progress(study.trials, bookkeeper.metrics)]
    with keep_open(tracker, _parent(study, searcher), study.documents(), parent=True) as ending:
        try:
            _tuner(study, searcher, tracker, callbacks).fit()
        finally:
            searcher.settle()
            bookkeeper.settle()
        findings = _findings(bookkeeper, study.output / "checkpoint")
        ending.tags = {"best": findings.title, f"best {SCORE}": f"{findings.metrics[SCORE]:.4f}"}
    return findings


def check_new(output: Path) -> None:
    """Refuse a folder with a study in it.

    Raises:
        UserError: names the folder.
    """
    if (output / DATABASE).exists():
        msg = f"{output}: holds a study already ({DATABASE}): give another --output"
        raise UserError(msg)


def _tuner(
    study: Study, searcher: StudySearch, tracker: "ActorHandle[Tracker]", callbacks: list["Callback"]
) -> "Tuner":
    from ray import tune

    nested = study.plan.workers > 1
    callbacks = [*callbacks, Sweep()] if nested else callbacks
    setup = Setup(store=str(study.store.root), output=str(study.output), tracker=tracker, plan=study.plan)
    trainable = tune.with_parameters(run_nested if nested else run_here, setup=setup)
    # a nested trial itself holds (almost) nothing, or trials would take the CPUs their own workers wait for
    asks = {"CPU": 0, "memory": 1} if nested else study.plan.share.as_ray()
    return tune.Tuner(
        tune.with_resources(trainable, asks),
        tune_config=tune.TuneConfig(
            num_samples=study.trials,
            search_alg=searcher,
            scheduler=scheduler(
                study.stopping, metric=SCORE, epoch=EPOCH, first=study.base.training.validate_every
            ),
            reuse_actors=not nested,  # the process of a stopped nested trial cannot be used again
            max_concurrent_trials=study.plan.concurrent if nested else None,
            time_budget_s=study.max_time_s,
            trial_dirname_creator=folder_name,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(study.output),
            verbose=0,
            callbacks=callbacks,
            failure_config=tune.FailureConfig(max_failures=_LOST_TRIALS),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1),
        ),
    )


def _parent(study: Study, searcher: StudySearch) -> RunSpec:
    """The study's own run; its id is kept with the Optuna study."""
    identity = uuid.uuid4().hex
    searcher.study.set_user_attr(TRIAL, identity)
    params = {
        "space": study.space.path.name,
        "trials": study.trials,
        "workers": study.plan.workers,
        "max_time_s": study.max_time_s,
        **flatten(study.stopping, "stopping."),
    }
    return RunSpec(id=identity, name=study.name, params=params, tags=version_tags())


def _findings(bookkeeper: Bookkeeper, target: Path) -> Findings:
    """The best of the trials that finished (if none did, of those that were validated), and how many did."""
    ended, metrics = bookkeeper.ended, bookkeeper.metrics
    failed = [trial for trial in ended if trial.status == trial.ERROR or MISTAKE in (trial.last_result or {})]
    judged = [trial for trial in ended if trial not in failed and SCORE in metrics.get(trial.trial_id, {})]
    finished = [trial for trial in judged if trial.last_result.get(FINAL)]
    if not judged:
        reason = failure(failed[0]) if failed else "it ended before the first validation"
        msg = f"no trial came to a result: {reason}"
        raise UserError(msg)
    best = max(finished or judged, key=lambda trial: metrics[trial.trial_id][SCORE])
    checkpoint = last_checkpoint(best)
    if checkpoint is not None:
        shutil.copytree(checkpoint, target)
    return Findings(
        title=title(best),
        params=best.config["params"],
        metrics=metrics[best.trial_id],
        checkpoint=None if checkpoint is None else target,
        finished=len(finished),
        stopped=len(ended) - len(finished) - len(failed),
        failed=len(failed),
    )
