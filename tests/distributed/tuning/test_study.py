"""Studies on a real cluster: trials of several workers, limits of time, interruptions."""

import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuning_study import make_spec, open_runs, read_runs, read_trials

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.cluster.placement_groups import remove_orphaned_groups
from ossnet.distributed.launch import launch_study
from ossnet.distributed.tuning.result import StudyResult
from ossnet.errors import UserError
from ossnet.training.checkpoint import check_checkpoint

pytestmark = pytest.mark.usefixtures("cluster", "mlflow_store")

# A network that learns nothing hits a few voxels; one that begins to learn says background everywhere, has a
# Dice of 0 and so falls behind.
RATES = """
POINTS_TO_EVALUATE = [{"rate": 0.0}, {"rate": 0.02}]

def space(trial):
    return {"optimizer.learning_rate": trial.suggest_float("rate", 0.0, 0.02)}
"""


def study(folder: Path, body: str, base: Config, store: Store, **options: Any) -> StudyResult:
    return launch_study(make_spec(folder, body, base, store, **options))


def states(folder: Path) -> list[str]:
    return [trial.state.name for trial in read_trials(folder / "study")]


@pytest.mark.slow
def test_trials_of_two_workers(
    tiny: Config, store: Store, tmp_path: Path, all_cpus_free: Callable[[], None]
) -> None:
    """The second trial is stopped, which kills its trainer from outside: its workers' CPUs must come back."""
    base = tiny.replace({"training.validate_every": 1, "training.epochs": 2, "training.validation_cases": 2})
    result = study(tmp_path, RATES, base, store, trials=2, workers=2)
    assert (result.counts.finished, result.counts.stopped, result.counts.failed) == (1, 1, 0)
    assert result.checkpoint is not None
    check_checkpoint(result.checkpoint)
    assert result.model == "models:/mine/1"
    assert states(tmp_path) == ["COMPLETE", "PRUNED"]
    _, (finished, stopped) = read_runs(tmp_path)
    client = open_runs(tmp_path)
    assert client.get_model_version("mine", "1").run_id == finished.info.run_id
    assert (finished.info.status, stopped.info.status) == ("FINISHED", "KILLED")
    for run in (finished, stopped):
        assert run.data.metrics["memory/peak_allocated_gib"] > 0
        assert "dice/val" in run.data.metrics
    remove_orphaned_groups()
    all_cpus_free()


def test_an_interrupted_study_has_no_result_and_can_be_resumed(
    tiny: Config,
    store: Store,
    tmp_path: Path,
    interrupt: Callable[[Callable[[], bool]], None],
    all_cpus_free: Callable[[], None],
) -> None:
    base = tiny.replace({"training.epochs": 10_000, "training.validate_every": 2})
    interrupt(
        lambda: (
            (tmp_path / "study" / "trials").exists()
            and any(trial.intermediate_values for trial in read_trials(tmp_path / "study"))
        )
    )
    with pytest.raises(KeyboardInterrupt):
        study(tmp_path, RATES, base, store)
    all_cpus_free()
    assert "RUNNING" in states(tmp_path)  # to be resumed
    assert set(states(tmp_path)) <= {"RUNNING", "PRUNED"}
    parent, children = read_runs(tmp_path)
    assert parent.info.status == "KILLED"
    assert {run.info.status for run in children} == {"KILLED"}
    assert "interrupted" in {run.data.tags["stop_reason"] for run in children}
    assert not (tmp_path / "study" / "checkpoint").exists()
    assert not open_runs(tmp_path).search_registered_models()


def test_a_study_without_time_says_so(tiny: Config, store: Store, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"time limit of 0.1 s: expected time for one trial, .*; give at least"
    ):
        study(tmp_path, RATES, tiny, store, max_time_s=0.1)


@pytest.mark.slow
def test_what_runs_at_the_end_of_a_study_validates_and_counts(
    tiny: Config, store: Store, tmp_path: Path
) -> None:
    """Trials of epochs without end: the deadline cuts them short, and the best one is the result."""
    base = tiny.replace({"training.epochs": 10_000, "training.validate_every": 10_000})
    began = time.monotonic()
    result = study(tmp_path, RATES, base, store, max_time_s=150.0, timed=False)
    assert time.monotonic() - began < 180
    assert result.checkpoint is not None
    check_checkpoint(result.checkpoint)
    assert 0 <= result.metrics["dice/val"] <= 1
    _, children = read_runs(tmp_path)
    assert all(run.data.tags["stop_reason"] == "time limit" for run in children)
    assert any("dice/val" in run.data.metrics for run in children)


@pytest.mark.slow
def test_a_study_of_limited_time_plans_its_trials(tiny: Config, store: Store, tmp_path: Path) -> None:
    began = time.monotonic()
    result = study(tmp_path, RATES, tiny, store, max_time_s=150.0, trials=None)
    assert time.monotonic() - began < 180
    assert result.checkpoint is not None
    ended = [trial for trial in read_trials(tmp_path / "study") if trial.intermediate_values]
    assert ended
    for trial in ended:  # thousandths of a trial's time
        assert max(trial.intermediate_values) <= 1000
        assert min(trial.intermediate_values) >= 100


@pytest.mark.slow
def test_trials_wait_for_a_store_that_is_mended(tiny: Config, store: Store, tmp_path: Path) -> None:
    """A damaged case ends the study with a line that names it; resumed, it makes every trial."""
    root = shutil.copytree(store.root, tmp_path / "store")
    case = store.split("training")[0]
    file = root / store.manifest.cases[case].file
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] + b"\xff" + whole[len(whole) // 2 + 1 :])
    damaged = Store.open(root)
    with pytest.raises(UserError) as ended:
        study(tmp_path, RATES, tiny, damaged, trials=2)
    found = f"{file}, case {case}, node {socket.gethostname()}: expected the checksum"
    assert str(ended.value).startswith(found)
    assert str(ended.value).endswith("; then continue the study by --resume: its trials wait for it")
    assert set(states(tmp_path)) == {"RUNNING"}
    _, waiting = read_runs(tmp_path)
    assert {run.info.status for run in waiting} == {"KILLED"}
    assert all(run.data.tags["error"].startswith(found) for run in waiting)
    file.write_bytes(whole)
    result = study(tmp_path, RATES, tiny, damaged, trials=2, resume=True)
    assert (result.counts.ended, result.counts.failed) == (2, 0)
    assert set(states(tmp_path)) <= {"COMPLETE", "PRUNED"}
    _, children = read_runs(tmp_path)
    assert len(children) == 2
    assert {run.info.run_id for run in waiting} <= {run.info.run_id for run in children}
