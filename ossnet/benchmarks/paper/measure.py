"""Networks trained one after the other on one store with one budget of time, and compared on its cases."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ossnet.benchmarks.config import PaperBenchmarkConfig
from ossnet.benchmarks.machine import processor, release_memory, torch_threads
from ossnet.benchmarks.paper.published import paper_dataset
from ossnet.benchmarks.paper.results import STATISTIC, PaperResult, RunKey, RunRow
from ossnet.benchmarks.paper.run import Runner
from ossnet.benchmarks.resumed import add_rows, check_same, emptied
from ossnet.data import Store
from ossnet.data.store.splits import find_strata, make_folds
from ossnet.errors import UserError
from ossnet.evaluation.run import TOLERANCE_MM
from ossnet.memory import track_peak
from ossnet.memory.device import resolve_device
from ossnet.output.versions import git_commit, versions

_SEED = 0  # of the folds, and of each of their runs
Parts = tuple[tuple[str, ...], tuple[str, ...]]
"""Cases to train on, and cases to evaluate."""


def measure_paper(
    settings: PaperBenchmarkConfig,
    store: Store,
    path: Path,
    *,
    command: str,
    progress: Callable[[RunRow], None],
) -> PaperResult:
    """Train and evaluate every network with every seed, or on every fold, one run at a time.

    Networks take turns, so that a busy machine slows all of them equally. The result is written after each
    run; the runs that the file has already are not made again, those that failed are. Those of another file
    in the folder, which differs in flips alone, are evaluated anew and not trained again.

    Args:
        path: the result's file; checkpoints lie in a folder next to it.
        command: what is recorded as the command of the result.
        progress: called with each new row.

    Raises:
        UserError: no cases to train on or to evaluate, more folds than patients, or a file of another
            comparison.
    """
    device = resolve_device(None)
    parts = split_parts(store, settings.folds)
    runs = [(_SEED, fold) for fold in parts] if settings.folds else [(s, None) for s in range(settings.seeds)]
    kept = PaperResult.read(path).without_failed() if path.exists() else None
    result = kept or _new_result(settings, store, device, parts, command)
    flips = ("flips", result.flips, settings.flips)
    check_same(path, [*_training_settings(result, settings, store, device), flips])
    runner = Runner(
        store=store,
        time_s=settings.time_s,
        now=time.process_time if device.type == "cpu" else time.monotonic,
        folder=path.parent / "networks",
        flips=settings.flips,
    )

    trained = _trained_runs(path, settings, store, device)

    def make(key: RunKey) -> RunRow:
        training, validation = parts[key.fold]
        try:
            if key in trained and runner.checkpoint(key).exists():
                return runner.evaluate(trained[key], validation)
            emptied(runner.folder / key.folder)
            return runner.run(key, training, validation)
        finally:
            release_memory(device)

    keys = [RunKey(network, seed, fold) for seed, fold in runs for network in settings.models]
    missing = [key for key in keys if key not in {row.key for row in result.rows}]
    with torch_threads(result.threads):
        return add_rows(result, path, missing, make, progress)


def _training_settings(
    result: PaperResult, settings: PaperBenchmarkConfig, store: Store, device: torch.device
) -> list[tuple[str, object, object]]:
    """What decides how a run is trained: its name, its value in a result, and that of now."""
    return [
        ("max-time", result.time_s, settings.time_s),
        ("folds", result.folds, settings.folds),
        ("data", result.fingerprint, store.manifest.fingerprint),
        ("device", result.device, _device_name(device)),
    ]


def _trained_runs(
    path: Path, settings: PaperBenchmarkConfig, store: Store, device: torch.device
) -> dict[RunKey, RunRow]:
    """The runs of other results in the folder whose settings of training are the same."""
    results = [PaperResult.read(file) for file in sorted(path.parent.glob("paper*.json")) if file != path]
    return {
        row.key: row
        for result in results
        if all(before == now for _, before, now in _training_settings(result, settings, store, device))
        for row in result.finished
    }


def split_parts(store: Store, folds: int | None) -> dict[int | None, Parts]:
    """The cases to train on and to evaluate, by fold; without folds the store's own splits, by None.

    Folds are the store's where it has so many, else made of its training and validation cases: by patient,
    stratified, the same every time.

    Raises:
        UserError: there are none to train on or to evaluate, or more folds than patients.
    """
    if folds is None:
        splits = store.split("training"), store.split("validation")
        if not all(splits):
            raise UserError(
                store.root,
                expected="training and validation cases",
                found=f"{len(splits[0])} and {len(splits[1])}",
                remedy="give --folds",
            )
        return {None: splits}
    parts = store.manifest.folds if len(store.manifest.folds) == folds else _new_folds(store, folds)
    every = {case for part in parts for case in part}
    return {fold: (tuple(sorted(every - set(part))), part) for fold, part in enumerate(parts)}


def _new_folds(store: Store, folds: int) -> tuple[tuple[str, ...], ...]:
    entries = store.manifest.cases
    cases = sorted({*store.split("training"), *store.split("validation")})
    groups = {case: entries[case].group for case in cases}
    volumes = {}
    for case in cases:
        statistics = entries[case].statistics
        volumes[case] = [count * math.prod(statistics.spacing) for count in statistics.class_counts[1:]]
    return make_folds(groups, folds=folds, seed=_SEED, strata=find_strata(groups, volumes))


def _new_result(
    settings: PaperBenchmarkConfig,
    store: Store,
    device: torch.device,
    parts: dict[int | None, Parts],
    command: str,
) -> PaperResult:
    """A result without rows."""
    return PaperResult(
        device=_device_name(device),
        processor=processor(),
        threads=1 if device.type == "cpu" else torch.get_num_threads(),
        versions=versions(),
        commit=git_commit(),
        data=_in_words(store, list(parts.values()), settings.folds),
        fingerprint=store.manifest.fingerprint,
        published=paper_dataset(store),
        time_s=settings.time_s,
        folds=settings.folds,
        nsd_tolerance_mm=TOLERANCE_MM,
        statistic=STATISTIC,
        command=command,
        rows=(),
        flips=settings.flips,
    )


def _device_name(device: torch.device) -> str:
    with track_peak(device) as idle:  # reads the device
        pass
    return idle.memory.device


def _in_words(store: Store, parts: Sequence[Parts], folds: int | None) -> str:
    if folds is None:
        return f"{len(parts[0][0])} training and {len(parts[0][1])} validation cases"
    made = (
        "the store's" if len(store.manifest.folds) == folds else "made of its training and validation cases"
    )
    return f"{sum(len(part) for _, part in parts)} cases in {folds} folds, {made}"
