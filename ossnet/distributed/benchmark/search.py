"""Compare searches under a memory budget at equal CPU time: ours, and others of the field."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossnet.errors import UserError

if TYPE_CHECKING:
    from ossnet.data import Store
    from ossnet.distributed.benchmark.results import SearchBenchmarkResult, StudyRow
    from ossnet.distributed.benchmark.study import MakeMethod
    from ossnet.distributed.tuning.search_space import Space
    from ossnet.planning.allocation import Allocation
    from ossnet.planning.configure.planner import Planner

METHODS = ("ossnet", "optuna", "random", "optuna-fitted", "syne-tune")
_PHANTOM: dict[str, Any] = {"cases": 16, "shape": (24, 24, 20), "modalities": ("FLAIR",)}
_SAMPLES = 24  # random configurations that tell what of the space fits
_FITTING = 1 / 3  # of them fit the budget where none is given


@dataclass(frozen=True)
class SearchBenchmarkConfig:
    """What is searched, by which methods, how often and how long."""

    space: Path
    """Python file with a function space(trial) that returns dotted configuration paths."""
    methods: tuple[str, ...] = METHODS[:3]
    """Methods to compare: of ossnet, optuna, random, optuna-fitted, syne-tune."""
    seeds: int = 3
    """Studies of each method."""
    time_s: float = 60.0
    """CPU seconds of a study."""
    budget_gib: float | None = None
    """Peak memory of a training step; by default what a third of the space takes at most."""

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            UserError: an unknown method, or no study at all.
        """
        for method in self.methods:
            if method not in METHODS:
                raise UserError("methods", expected=f"some of {', '.join(METHODS)}", found=method)
        if self.seeds < 1 or not self.methods:
            raise UserError("seeds", expected="at least 1, of at least one method", found=str(self.seeds))


def compare(
    settings: SearchBenchmarkConfig,
    path: Path,
    *,
    data: Path | None,
    command: str,
    progress: Callable[["StudyRow"], None],
) -> "SearchBenchmarkResult":
    """Search a space by each method with each seed, one trial at a time in this process.

    The methods take turns, so that a busy machine slows all of them equally. The result is written after
    each study; the studies that the file has already are not run again.

    Args:
        path: the result's file.
        data: the store; by default a small phantom's, made next to the result.
        command: what is recorded as the command of the result.
        progress: called with each new row.

    Raises:
        UserError: a method is not installed, the space file has a fault, nothing of it fits, or the file is
            of another comparison.
    """
    from ossnet.benchmarks.machine import torch_threads
    from ossnet.benchmarks.resumed import add_rows, check_same, emptied
    from ossnet.data import Store
    from ossnet.distributed.benchmark.method import StudyTask
    from ossnet.distributed.benchmark.phantom import phantom_store
    from ossnet.distributed.benchmark.results import SearchBenchmarkResult, StudyRow
    from ossnet.distributed.benchmark.study import run_study
    from ossnet.distributed.tuning.search_space import Space

    constructors = {method: _constructor(method) for method in settings.methods}
    folder = path.parent.absolute()
    store = phantom_store(folder, **_PHANTOM) if data is None else Store.open(data)
    space = Space(settings.space)
    allocation, planner = _allocate(settings.time_s), _planner(store)
    kept = SearchBenchmarkResult.read(path) if path.exists() else None
    result = kept or _new_result(settings, store, space, planner, allocation, command)
    check_same(path, _settings(result, settings, store))
    done = {(row.method, row.seed) for row in result.rows}
    studies = [(method, seed) for seed in range(settings.seeds) for method in settings.methods]
    studies = [each for each in studies if each not in done]
    if studies:
        _load_libraries(planner)

    def make(study: tuple[str, int]) -> StudyRow:
        method, seed = study
        task = StudyTask(
            space=space,
            store=store,
            planner=replace(planner, given={"training.seed": seed}),
            budget_gib=result.budget_gib,
            allocation=allocation,
            seed=seed,
            folder=emptied(folder / "studies" / f"{method}-{seed}"),
        )
        with torch_threads(1):
            return run_study(method, constructors[method], task)

    return add_rows(result, path, studies, make, progress)


def _load_libraries(planner: "Planner") -> None:
    """Load what networks load when they are first used, which would count for the first study only."""
    from ossnet.planning.estimator import PeakEstimator

    for network in ("oss-net-c", "unet-3d"):
        PeakEstimator().gib(planner.resolve(network).config)


def _constructor(method: str) -> "MakeMethod":
    """A method's constructor; the imports are done here, as they are not what a study is measured by.

    Raises:
        UserError: a package is not installed.
    """
    if method == "ossnet":
        from ossnet.distributed.benchmark.ours import OurSearch

        return OurSearch
    if method == "syne-tune":
        return _syne_tune()
    from ossnet.distributed.benchmark.recipe import RaySearch

    if method == "random":
        return lambda task, _: RaySearch.random(task)
    return lambda task, _: RaySearch.tpe(task, fitted=method == "optuna-fitted")


def _syne_tune() -> "MakeMethod":
    try:
        from ossnet.distributed.benchmark.syne_tune_search import SyneTuneSearch
    except ImportError as error:
        raise UserError(
            "--methods syne-tune",
            expected="Syne Tune with what it needs",
            found=str(error),
            remedy="pip install 'ossnet[rivals]', or leave the method out",
        ) from error
    return lambda task, _: SyneTuneSearch(task)


def _allocate(time_s: float) -> "Allocation":
    """The plan of `tune` for a study whose trials have all of this time."""
    from ossnet.distributed.tuning.config import EarlyStoppingConfig
    from ossnet.planning.allocation import TRIAL_START_S, allocate

    factor = EarlyStoppingConfig().reduction_factor
    return allocate(time_s, slots=1, start_s=TRIAL_START_S, reduction_factor=factor, closing_s=0.0)


def _planner(store: "Store") -> "Planner":
    from ossnet.planning.configure.fingerprint import Fingerprint
    from ossnet.planning.configure.planner import Planner

    return Planner(dataset=Fingerprint.of(store))


def _new_result(
    settings: SearchBenchmarkConfig,
    store: "Store",
    space: "Space",
    planner: "Planner",
    allocation: "Allocation",
    command: str,
) -> "SearchBenchmarkResult":
    """A result without rows."""
    import numpy as np

    from ossnet.benchmarks.machine import processor
    from ossnet.distributed.benchmark.results import STATISTIC, SearchBenchmarkResult
    from ossnet.distributed.tuning.search_space import sample_points
    from ossnet.output.versions import versions
    from ossnet.planning.estimator import PeakEstimator

    estimator = PeakEstimator()
    peaks = [
        estimator.gib(planner.resolve(changes=changes).config)
        for _, changes in sample_points(space, count=_SAMPLES)
    ]
    budget_gib = settings.budget_gib or float(np.quantile(peaks, _FITTING))
    training, validation = (len(store.split(split)) for split in ("training", "validation"))
    return SearchBenchmarkResult(
        processor=processor(),
        versions=versions(),
        data=f"{training} training and {validation} validation cases",
        validation_cases=validation,
        fingerprint=store.manifest.fingerprint,
        space=settings.space.name,
        budget_gib=budget_gib,
        fitting_fraction=sum(peak <= budget_gib for peak in peaks) / len(peaks),
        time_s=settings.time_s,
        plan=str(allocation),
        statistic=STATISTIC,
        command=command,
        rows=(),
    )


def _settings(
    result: "SearchBenchmarkResult", settings: SearchBenchmarkConfig, store: "Store"
) -> list[tuple[str, object, object]]:
    """What all studies of a file have in common: its name, its value in the file, and that of now."""
    return [
        ("space", result.space, settings.space.name),
        ("time-per-study", result.time_s, settings.time_s),
        ("memory-budget", result.budget_gib, settings.budget_gib or result.budget_gib),
        ("data", result.fingerprint, store.manifest.fingerprint),
    ]
