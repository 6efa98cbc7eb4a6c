"""Training under Ray: any number of workers gives the same run, and none of them is irreplaceable."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.launch import launch_training, with_limits
from ossnet.distributed.tracking.client import TrackingConfig
from ossnet.errors import UserError
from ossnet.metric_names import RESUMED
from ossnet.training.checkpoint import check_checkpoint


def only_run(tracking: TrackingConfig) -> tuple[MlflowClient, Run]:
    client = MlflowClient(tracking.uri)
    experiment = client.get_experiment_by_name(tracking.experiment)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


def losses(tracking: TrackingConfig) -> list[tuple[int, float]]:
    client, run = only_run(tracking)
    history = client.get_metric_history(run.info.run_id, "loss/train")
    return sorted((metric.step, metric.value) for metric in history)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_two_workers_train_as_one_does(tiny: Config, store: Store, tmp_path: Path) -> None:
    config = tiny.replace(
        {"training.epochs": 10, "training.validate_every": 10, "training.checkpoint_every": 10}
    )
    curves = []
    for workers in (1, 2):
        tracking = TrackingConfig.at(tmp_path, f"{workers} workers")
        output = tmp_path / str(workers)
        outcome = launch_training(
            config, store, output=output, workers=workers, tracking=tracking, resume=False
        )
        check_checkpoint(outcome.checkpoint)
        curves.append(losses(tracking))
    alone, together = curves
    assert [step for step, _ in alone] == list(range(1, 21))
    assert [step for step, _ in together] == list(range(1, 21))
    worst = max(abs(one - two) for (_, one), (_, two) in zip(alone, together, strict=True))
    assert worst < 1e-3
    assert alone[-1][1] < 0.9 * alone[0][1]  # there is a curve to follow


def descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def training_workers() -> Iterator[int]:
    """Our own training workers' processes."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (folder / "cmdline").read_text()
            if command.startswith("ray::RayTrainWorker") and descends(int(folder.name), os.getpid()):
                yield int(folder.name)


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_killed_worker_is_replaced_and_the_run_finishes(tiny: Config, store: Store, tmp_path: Path) -> None:
    config = tiny.replace({"training.epochs": 12, "training.validate_every": 4})
    tracking, killed = TrackingConfig.at(tmp_path, "killed"), threading.Event()

    def kill_one() -> None:
        while len(list(tmp_path.glob("run/train/checkpoint_*"))) < 2:  # the first is registered by then
            time.sleep(0.05)
        os.kill(next(training_workers()), signal.SIGKILL)
        killed.set()

    threading.Thread(target=kill_one, daemon=True).start()
    outcome = launch_training(
        config, store, output=tmp_path / "run", workers=2, tracking=tracking, resume=False
    )
    assert killed.is_set()
    assert outcome.metrics["epoch"] in {4, 8, 12}
    _, run = only_run(tracking)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["epoch"] == 12
    assert run.data.tags[RESUMED].startswith("checkpoint_")
    assert [step for step, _ in losses(tracking)] == list(range(1, 25))  # no step missing, none twice


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_run_continues_where_it_ended(tiny: Config, store: Store, tmp_path: Path) -> None:
    tracking, output = TrackingConfig.at(tmp_path, "resumed"), tmp_path / "run"
    options = {"output": output, "workers": 1, "tracking": tracking}
    launch_training(tiny, store, resume=False, **options)
    with pytest.raises(UserError, match="expected a new folder, found a run"):
        launch_training(tiny, store, resume=False, **options)
    with pytest.raises(UserError, match=r"training.batch_size: expected 4 as the run began, found 2"):
        launch_training(tiny.replace({"training.batch_size": 2}), store, resume=True, **options)
    launch_training(tiny.replace({"training.epochs": 6}), store, resume=True, **options)
    _, run = only_run(tracking)
    assert run.data.metrics["epoch"] == 6
    assert [step for step, _ in losses(tracking)] == list(range(1, 13))


@pytest.mark.slow
@pytest.mark.usefixtures("cluster", "mlflow_store")
def test_an_interrupted_run_leaves_nothing_running(
    tiny: Config,
    store: Store,
    tmp_path: Path,
    interrupt: Callable[[Callable[[], bool]], None],
    all_cpus_free: Callable[[], None],
) -> None:
    config = tiny.replace({"training.epochs": 10_000})
    interrupt(lambda: any(tmp_path.glob("run/train/checkpoint_*")))
    tracking = TrackingConfig.at(tmp_path, "interrupted")
    with pytest.raises(KeyboardInterrupt):
        launch_training(config, store, output=tmp_path / "run", workers=1, tracking=tracking, resume=False)
    all_cpus_free()
    assert not list(training_workers())
    assert only_run(tracking)[1].info.status == "KILLED"


def test_nothing_to_resume(tiny: Config, store: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a run to resume, found no config"):
        launch_training(
            tiny, store, output=tmp_path, workers=1, tracking=TrackingConfig.at(tmp_path, "none"), resume=True
        )


def test_a_time_limit_lifts_the_limit_of_epochs(tiny: Config, store: Store) -> None:
    config = with_limits(tiny, store, epochs=None, max_time_s=60.0)
    assert config.training.max_time_s == 60
    assert config.training.epochs == 3000  # two steps an epoch, none shorter than 10 ms
    assert with_limits(tiny, store, epochs=7, max_time_s=None).training.epochs == 7


@pytest.mark.usefixtures("cluster")
def test_workers_that_can_never_be_placed_are_refused(tiny: Config, store: Store, tmp_path: Path) -> None:
    config = tiny.replace({"training.batch_size": 8})
    if (os.cpu_count() or 1) >= 8:
        pytest.skip("this machine has room for the workers")
    with pytest.raises(UserError, match="expected room for 8 workers of 1 CPU each"):
        launch_training(
            config,
            store,
            output=tmp_path / "run",
            workers=8,
            tracking=TrackingConfig.at(tmp_path, "refused"),
            resume=False,
        )
    assert not (tmp_path / "run").exists()
