"""What evaluate and predict find is added to the run of their checkpoint, where that is tracked."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from ossnet.commands import predict
from ossnet.distributed.tracking.client import RunSpec, Tracker, TrackingConfig
from ossnet.distributed.tracking.later import add_to_run
from ossnet.training.checkpoint_files import TRACKING
from ossnet.training.reporting import RunOrigin

METRICS = {"evaluation/validation/dice": 0.5, "evaluation/validation/dice/\u809d": 0.25}


@pytest.fixture
def tracking(mlflow_store: Path, tmp_path: Path) -> TrackingConfig:
    return TrackingConfig.at(tmp_path, "mine")


@pytest.fixture
def origin(tracking: TrackingConfig) -> RunOrigin:
    """A run that has ended."""
    tracker = Tracker(tracking)
    tracker.open_run(RunSpec("the-id", "first"))
    tracker.close("the-id", "FINISHED")
    return tracking.origin("the-id")


@pytest.fixture
def read(tracking: TrackingConfig) -> Callable[[], Run]:
    def only_run() -> Run:
        client = MlflowClient(tracking.uri)
        (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
        return run

    return only_run


def test_metrics_are_added_and_the_run_stays_ended(
    origin: RunOrigin, read: Callable[[], Run], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ossnet")
    add_to_run(origin, METRICS)
    add_to_run(origin, {**METRICS, "evaluation/validation/dice": 0.75})
    run = read()
    assert run.data.metrics["evaluation/validation/dice"] == 0.75
    assert sorted(run.data.metrics.values()) == [0.25, 0.75]
    assert run.info.status == "FINISHED"
    assert [record.message for record in caplog.records] == [
        "MLflow: 2 metrics are added to the run 'first'"
    ] * 2


@pytest.mark.parametrize("change", ["no store", "another run", "another experiment"])
def test_nothing_happens_where_the_run_is_not_here(
    change: str, origin: RunOrigin, tmp_path: Path, read: Callable[[], Run], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ossnet")
    other = {
        "no store": RunOrigin("the-id", f"sqlite:///{tmp_path}/other.db", "mine"),
        "another run": RunOrigin("another", origin.uri, "mine"),
        "another experiment": RunOrigin("the-id", origin.uri, "another"),
    }[change]
    add_to_run(other, METRICS)
    assert not caplog.records
    assert not (tmp_path / "other.db").exists()
    assert read().data.metrics == {}


def test_a_store_that_does_not_answer_is_a_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    add_to_run(RunOrigin("the-id", "http://127.0.0.1:9", "mine"), METRICS)
    (record,) = caplog.records
    assert record.message.startswith("warning: nothing is added to the checkpoint's run in MLflow: ")


def test_the_environment_says_where_the_store_is(
    origin: RunOrigin, read: Callable[[], Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", origin.uri)
    add_to_run(RunOrigin("the-id", f"sqlite:///{tmp_path}/gone.db", "mine"), METRICS)
    assert read().data.metrics["evaluation/validation/dice"] == 0.5


def test_predict_adds_what_it_found(
    origin: RunOrigin, read: Callable[[], Run], phantom_store: Path, phantom_checkpoint: Path, tmp_path: Path
) -> None:
    """As `evaluate` does: `tests/e2e/test_train.py`."""
    checkpoint = Path(shutil.copytree(phantom_checkpoint, tmp_path / "checkpoint"))
    (checkpoint / TRACKING).write_text(origin.to_json())
    assert RunOrigin.read(checkpoint) == origin
    scan = min((phantom_store.parent / "source" / "imagesTr").glob("*.nii.gz"))
    common = ["--checkpoint", str(checkpoint), "--device", "cpu"]
    predict.main([*common, "--input", str(scan), "--output", str(tmp_path / "predictions")])
    metrics = read().data.metrics
    assert (metrics["prediction/scans"], metrics["prediction/failed"]) == (1, 0)
    assert metrics["prediction/seconds_per_scan"] > 0


def test_no_password_is_kept() -> None:
    tracking = TrackingConfig("https://me:secret@tracking.example", "mine", None)
    assert "secret" not in tracking.origin("a").to_json()
