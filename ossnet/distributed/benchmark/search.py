"""Compare searches: ours under a memory budget, and the usual recipe of Ray's documentation."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossnet.distributed.tuning.config import EarlyStoppingConfig
from ossnet.errors import UserError

if TYPE_CHECKING:
    from ossnet.config import Config
    from ossnet.data import Store
    from ossnet.distributed.benchmark.results import SearchBenchmarkResult, SearchRow
    from ossnet.distributed.tuning.search_space import Space
    from ossnet.distributed.tuning.study import StudySpec

_PHANTOM: dict[str, Any] = {"cases": 16, "shape": (24, 24, 20), "modalities": ("FLAIR",)}
_BASE: dict[str, Any] = {
    "model.encoder_channels": (8, 16),
    "training.epochs": 9,
    "training.batch_size": 4,
    "training.validate_every": 3,
    "sampling.border_width": 2,
    "optimizer.name": "adamw",
    "optimizer.schedule": "cosine",
}
_SAMPLES = 48  # random configurations that the budget is set by


@dataclass(frozen=True)
class SearchBenchmarkConfig:
    """Which space, how much of it fits, and how often it is searched."""

    space: Path
    """Python file with a function space(trial) that returns dotted configuration paths."""
    trials: int = 24
    """Trials of a study."""
    seeds: int = 3
    """Studies of each search."""
    feasible_fraction: float = 1 / 3
    """Fraction of random configurations that the memory budget is set to fit."""

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            UserError: a number is below 1, or the fraction is none.
        """
        for option in ("trials", "seeds"):
            if getattr(self, option) < 1:
                raise UserError(option, expected="at least 1", found=str(getattr(self, option)))
        if not 0 < self.feasible_fraction < 1:
            raise UserError(
                "feasible-fraction", expected="a fraction between 0 and 1", found=str(self.feasible_fraction)
            )


@dataclass(frozen=True)
class BenchmarkTask:
    """The search task of both methods with one seed."""

    space: "Space"
    base: "Config"
    store: "Store"
    trials: int
    seed: int
    output: Path


def compare(
    settings: SearchBenchmarkConfig,
    output: Path,
    *,
    command: str,
    run_study: Callable[["StudySpec"], object],
    progress: Callable[["SearchRow"], None],
) -> "SearchBenchmarkResult":
    """Search a space by each method with each seed on a small phantom, one trial at a time.

    The methods take turns, so that a busy machine slows both of them equally.

    Args:
        command: what is recorded as the command of the result.
        run_study: runs one of our studies.
        progress: called with each row.

    Raises:
        UserError: the space file has a fault, or a study has no result.
    """
    import numpy as np

    from ossnet.benchmarks.machine import processor
    from ossnet.config import Config
    from ossnet.distributed.benchmark.results import STATISTIC, SearchBenchmarkResult
    from ossnet.distributed.cluster.connection import connect
    from ossnet.distributed.tracking.actor import version_tags
    from ossnet.distributed.tuning.search_space import Space, sample_points
    from ossnet.planning.configure.fingerprint import Fingerprint
    from ossnet.planning.configure.planner import Planner
    from ossnet.planning.estimator import PeakEstimator

    output = output.absolute()
    with connect(cpus=1):
        store = _phantom(output)
        base = Config.preset("oss-net-c", store).replace(_BASE)
        space = Space(settings.space)
        estimator = PeakEstimator(workers=1)
        planner = Planner.around(base, Fingerprint.of(store))
        peaks = [
            estimator.gib(planner.resolve(changes=changes).config)
            for _, changes in sample_points(space, count=_SAMPLES)
        ]
        budget = float(np.quantile(peaks, settings.feasible_fraction))
        rows = []
        for seed in range(settings.seeds):
            task = BenchmarkTask(
                space, base.replace({"training.seed": seed}), store, settings.trials, seed, output
            )
            for search in (partial(_run_candidate, budget_gib=budget, run_study=run_study), _run_baseline):
                rows.append(search(task))
                progress(rows[-1])
    return SearchBenchmarkResult(
        processor=processor(),
        versions={
            name.removeprefix("version/"): value
            for name, value in version_tags().items()
            if name.startswith("version/")
        },
        space=settings.space.name,
        budget_gib=budget,
        fitting_fraction=sum(peak <= budget for peak in peaks) / len(peaks),
        trials=settings.trials,
        statistic=STATISTIC,
        command=command,
        rows=tuple(rows),
    )


def _run_candidate(
    task: BenchmarkTask, budget_gib: float, run_study: Callable[["StudySpec"], object]
) -> "SearchRow":
    from ossnet.distributed.benchmark.results import CANDIDATE, SearchRow, TrialRow
    from ossnet.distributed.tracking.client import TrackingConfig
    from ossnet.distributed.tuning.config import OptimizationConfig
    from ossnet.distributed.tuning.result import TrialCounts, dice_of
    from ossnet.distributed.tuning.storage import METRICS, TuningStudy
    from ossnet.distributed.tuning.study import StudySpec
    from ossnet.metric_names import COST, MEMORY

    name = f"ossnet-{task.seed}"
    spec = StudySpec(
        name=name,
        space=task.space,
        base=task.base,
        store=task.store,
        output=task.output / name,
        tracking=TrackingConfig.at(task.output, name),
        trials=task.trials,
        optimization=OptimizationConfig(budget_gib=budget_gib),
    )
    run_study(spec)
    study = TuningStudy.open_or_create(spec.database, name, spec.optimization)
    started = study.started_trials()
    rows = []
    for trial in started:
        metrics = trial.user_attrs[METRICS]
        dice = dice_of(trial) if trial.intermediate_values else None
        spent = metrics.get(COST, 0.0)
        rows.append(TrialRow(dice, metrics.get(MEMORY), spent, spent))
    return SearchRow(CANDIDATE, task.seed, TrialCounts.of(study).rejected, tuple(rows))


def _run_baseline(task: BenchmarkTask) -> "SearchRow":
    from ossnet.distributed.benchmark.baseline import BaselineContext, search
    from ossnet.distributed.benchmark.results import BASELINE, SearchRow

    folder = task.output / f"recipe-{task.seed}"
    folder.mkdir(parents=True)
    context = BaselineContext(task.base.to_json(), str(task.store.root), str(folder))
    rows = search(
        task.space, context, trials=task.trials, seed=task.seed, early_stopping=EarlyStoppingConfig()
    )
    return SearchRow(BASELINE, task.seed, 0, tuple(rows))


def _phantom(output: Path) -> "Store":
    from ossnet.data import PrepareConfig, Store, write_phantom
    from ossnet.distributed.data.prepare import prepare

    source = write_phantom(output / "phantom", **_PHANTOM)
    prepare(
        PrepareConfig(source=source, output=output / "store", target="foreground", validation_fraction=0.25)
    )
    return Store.open(output / "store")
