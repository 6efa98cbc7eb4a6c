"""Simulations of a study over numbers of GPUs, with and without sharing, early stopping and losses."""

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean

from ossnet.distributed.benchmark.simulation.cluster import Cluster
from ossnet.distributed.benchmark.simulation.comparison import compare
from ossnet.distributed.benchmark.simulation.config import SimulationConfig
from ossnet.distributed.benchmark.simulation.results import Measured, SimulationResult, SimulationRow
from ossnet.distributed.benchmark.simulation.simulator import simulate
from ossnet.distributed.benchmark.simulation.trials import (
    MeasuredTrial,
    read_trials,
    resampled,
    scaled,
)
from ossnet.distributed.tuning.config import EarlyStoppingConfig

_HOUR_S, _MINUTE_S = 3600, 60


def measure_simulation(
    settings: SimulationConfig,
    study: Path,
    *,
    checks: Sequence[Path] = (),
    command: str,
    progress: Callable[[SimulationRow], None],
) -> SimulationResult:
    """Simulate studies of trials that were measured.

    Args:
        study: folder of a study without early stopping, one trial at once, whose trials are drawn from.
        checks: folders of studies of the same trials, which the simulation is compared with.
        command: what is recorded as the command of the result.
        progress: called with each new row.

    Raises:
        UserError: a folder holds no such study, or no trial fits the GPUs.
    """
    from ossnet.distributed.reports.study_view import StudyView
    from ossnet.output.versions import git_commit, versions

    measured = read_trials(StudyView.open(study))
    compared = tuple(compare(measured, StudyView.open(folder)) for folder in checks)
    pool = scaled(measured, hours=settings.trial_hours, gib=settings.trial_gib)
    trials = resampled(pool, settings.trials, seed=settings.seed)
    restart_s = max(each.start_s for each in pool)
    rows = list[SimulationRow]()
    for gpus, busy, stopping, rate in product(
        settings.gpus, (None, *settings.busy), (False, True), settings.losses
    ):
        cluster = _cluster(settings, gpus, busy, rate, restart_s)
        rows.append(_row(trials, cluster, stops=stopping, shares=busy is not None, seed=settings.seed))
        progress(rows[-1])
    return SimulationResult(
        versions=versions(),
        commit=git_commit(),
        command=command,
        settings=settings,
        measured=Measured(
            trials=len(measured),
            mean_s=fmean(each.seconds for each in measured.values()),
            longest_s=max(each.seconds for each in measured.values()),
            start_s=fmean(each.start_s for each in pool),
            restart_s=restart_s,
            mean_gib=fmean(each.peak_gib for each in measured.values()),
            largest_gib=max(each.peak_gib for each in measured.values()),
        ),
        compared=compared,
        rows=tuple(rows),
    )


def _cluster(
    settings: SimulationConfig, gpus: int, busy: float | None, rate: float, restart_s: float
) -> Cluster:
    return Cluster(
        nodes=[{"CPU": settings.cpus, "GPU": 1}] * gpus,
        gpu_gib=None if busy is None else settings.gpu_gib,
        busy=busy or 1.0,
        losses_per_hour=rate,
        replacement_s=settings.replacement_minutes * _MINUTE_S,
        checkpoint_s=settings.checkpoint_minutes * _MINUTE_S,
        restart_s=restart_s,
    )


def _row(
    trials: Sequence[MeasuredTrial], cluster: Cluster, *, stops: bool, shares: bool, seed: int
) -> SimulationRow:
    early_stopping = EarlyStoppingConfig(algorithm="asha" if stops else "none")
    study = simulate(trials, cluster, early_stopping, seed=seed)
    return SimulationRow(
        gpus=len(cluster.nodes),
        shares=shares,
        busy=cluster.busy,
        early_stopping=stops,
        losses_per_hour=cluster.losses_per_hour,
        wall_h=study.wall_s / _HOUR_S,
        gpu_h=study.occupied_s / _HOUR_S,
        trained_h=study.trained_s / _HOUR_S,
        repeated_h=study.repeated_s / _HOUR_S,
        stopped=len(study.stopped),
        losses=study.losses,
        failed=len(study.failed),
        most_at_once=study.most_at_once,
        most_gib=study.most_gib,
    )
