"""A study of hundreds of trials: neither its memory nor the work for a trial grows with their number."""

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from tuning_study import make_spec, read_trials

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.launch import launch_study
from ossnet.distributed.tuning import study as tuning
from ossnet.distributed.tuning.config import EarlyStoppingConfig

TRIALS = 200
QUARTER = TRIALS // 4
MOST_MIB = 40.0
BODY = """
def space(trial):
    return {"optimizer.learning_rate": trial.suggest_float("rate", 1e-4, 1e-2, log=True)}
"""


def objective() -> Callable[..., None]:
    """A trial that trains nothing; made here, as workers cannot import this file."""

    def run(config: dict[str, Any], context: Any) -> None:
        from ray import tune

        rate = config["params"]["rate"]
        tune.report({"epoch": 1.0, "final": 0.0, "dice/val": rate, "memory/peak_allocated_gib": 0.1})
        tune.report({"epoch": 2.0, "final": 1.0, "dice/val": 2 * rate, "memory/peak_allocated_gib": 0.1})

    return run


def resident_mib() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
def test_hundreds_of_trials(
    cluster: None, tiny: Config, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "train_in_process", objective())
    sizes, counts, queries = list[float](), [0], 0

    def count(*_: object) -> None:
        nonlocal queries
        queries += 1

    class Watched(tuning.ProgressReporter):
        def on_trial_complete(self, *rest: Any, **named: Any) -> None:
            super().on_trial_complete(*rest, **named)
            counts.append(queries)
            if (len(counts) - 1) % QUARTER == 0:
                sizes.append(resident_mib())

    monkeypatch.setattr(tuning, "ProgressReporter", Watched)
    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", count)
    try:
        early_stopping = EarlyStoppingConfig(grace_period=1)
        launch_study(make_spec(tmp_path, BODY, tiny, store, trials=TRIALS, early_stopping=early_stopping))
    finally:
        sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", count)
    ended = read_trials(tmp_path / "study")
    assert len(ended) == TRIALS
    assert {trial.state.name for trial in ended} == {"COMPLETE", "PRUNED"}
    assert sizes[-1] - sizes[0] < MOST_MIB, sizes
    work = [counts[end] - counts[end - QUARTER] for end in range(QUARTER, TRIALS + 1, QUARTER)]
    assert work[-1] <= 1.1 * work[0], work
