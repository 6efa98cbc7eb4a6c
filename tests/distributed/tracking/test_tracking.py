"""The writer of runs: names, kinds and ends as agreed, and nothing twice however often it is called."""

from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from ossnet.config import Config
from ossnet.distributed.tracking import store
from ossnet.distributed.tracking.actor import JOURNAL, mlflow_run, start_tracker
from ossnet.distributed.tracking.client import MetricPoint, RunSpec, Tracker, TrackingConfig
from ossnet.errors import UserError


def point(name: str, value: float, step: int) -> MetricPoint:
    return MetricPoint(name, value, step, 1_700_000_000_000 + step)


@pytest.fixture
def tracking(mlflow_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrackingConfig:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return TrackingConfig.at(tmp_path, "mine")


@pytest.fixture
def runs(tracking: TrackingConfig) -> Callable[[], dict[str, Run]]:
    def read() -> dict[str, Run]:
        client = MlflowClient(tracking.uri)
        experiment = client.get_experiment_by_name("mine")
        assert experiment is not None
        return {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}

    return read


def test_the_store_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    at_home = TrackingConfig.at(tmp_path, "mine")
    assert at_home.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert at_home.open_command == f"mlflow ui --backend-store-uri {at_home.uri}"
    assert not at_home.has_experiment()
    assert not (tmp_path / "mlflow.db").exists()  # reading makes no store
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mine/runs.db")
    assert TrackingConfig.at(tmp_path, "mine").uri == f"sqlite:///{tmp_path}/mine/runs.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    server = TrackingConfig.at(tmp_path, "mine")
    assert (server.uri, server.artifact_location) == ("http://tracking.example:5000", None)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("MLFLOW_DEFAULT_ARTIFACT_ROOT", "s3://bucket/artifacts")
    on_s3 = TrackingConfig.at(tmp_path, "mine")
    assert (on_s3.uri, on_s3.artifact_location) == (at_home.uri, "s3://bucket/artifacts")


def test_files_that_need_a_package_are_one_line_before_anything_runs(
    tracking: TrackingConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_PACKAGES", {"s3": ("no_such.package", "s3")})
    line = r"artifacts in s3://bucket/a/?\S*: expected the package no_such\.package, .*ossnet\[s3\]"
    for _ in range(2):  # when the experiment is made, and when it is there
        with pytest.raises(UserError, match=line):
            Tracker(replace(tracking, artifact_location="s3://bucket/a"))


def test_a_study_and_its_trials(
    tracking: TrackingConfig, runs: Callable[[], dict[str, Run]], tiny: Config, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint").mkdir()
    for name in ("model.safetensors", "config.json", "state.pt"):
        (tmp_path / "checkpoint" / name).write_text(name)
    tracker = Tracker(tracking, study="s")
    many = {f"field.{number}": number / 8 for number in range(250)}
    study = tracker.open_run(RunSpec("s", "study"))
    tracker.open_run(RunSpec("a", "first", params=tiny.flatten() | many, tags={"network": "oss-net-c"}))
    tracker.open_run(RunSpec("b", "second"))
    tracker.log("a", [point("dice/val", 0.5, 2), point("dice/val/edema", 0.25, 2)])
    tracker.log_checkpoint("a", tmp_path / "checkpoint")
    tracker.close("a", "FINISHED")
    tracker.close("b", "KILLED", {"stop_reason": "early_stopped"})
    tracker.close("s", "FINISHED", {"best": "first"})
    tracker.flush()
    assert tracking.has_experiment()
    parent, first, second = (runs()[name] for name in ("study", "first", "second"))
    assert parent.data.tags["best"] == "first"
    assert {run.data.tags["mlflow.parentRunId"] for run in (first, second)} == {study}
    assert len(first.data.params) == len(tiny.flatten()) + 250
    assert first.data.params["model.decoder_width"] == "16"
    assert first.data.params["model.encoder_channels"] == "[4, 8]"
    assert first.data.params["training.max_time_s"] == "null"
    assert first.data.metrics == {"dice/val": 0.5, "dice/val/edema": 0.25}
    assert [run.info.status for run in (parent, first, second)] == ["FINISHED", "FINISHED", "KILLED"]
    files = MlflowClient(tracking.uri).list_artifacts(first.info.run_id, "checkpoint")
    assert [file.path for file in files] == ["checkpoint/config.json", "checkpoint/model.safetensors"]


def test_nothing_is_written_twice(tracking: TrackingConfig, runs: Callable[[], dict[str, Run]]) -> None:
    spec = RunSpec("a", "first", params={"x": 1})
    first = Tracker(tracking)
    identity = first.open_run(spec)
    first.log("a", [point("loss/train", 4.0 / step, step) for step in range(1, 5)])
    first.close("a", "KILLED")
    second = Tracker(tracking)  # the driver was killed, and a new one continues from step 2
    assert second.open_run(spec) == identity
    assert runs()["first"].info.status == "RUNNING"
    second.log("a", [point("loss/train", 4.0 / step, step) for step in range(3, 7)])
    second.open_run(spec)
    second.log("a", [point("loss/train", 4.0 / step, step) for step in range(1, 7)])
    assert second.latest("a") == {"loss/train": 4.0 / 6, "step": 6}
    history = MlflowClient(tracking.uri).get_metric_history(identity, "loss/train")
    assert sorted(metric.step for metric in history) == [1, 2, 3, 4, 5, 6]
    assert len(runs()) == 1


def test_a_later_picture_takes_the_place_of_an_earlier_one(tracking: TrackingConfig, tmp_path: Path) -> None:
    tracker = Tracker(tracking)
    run = tracker.open_run(RunSpec("a", "first"))
    for png in (b"old", b"new"):
        tracker.log_picture("a", b64encode(png).decode(), "case 1.png")
    tracker.log_picture("a", b64encode(b"other").decode(), "../case.png")
    tracker.flush()
    client = MlflowClient(tracking.uri)
    files = [file.path for file in client.list_artifacts(run, "overlays")]
    assert len(files) == 2
    contents = [Path(client.download_artifacts(run, path, tmp_path)).read_bytes() for path in sorted(files)]
    assert sorted(contents) == [b"new", b"other"]


def test_what_a_run_chose_is_added_once(tracking: TrackingConfig, runs: Callable[[], dict[str, Run]]) -> None:
    spec = RunSpec("a", "first", params={"training.steps_per_batch": None})
    for steps in (4, 8):  # a resumed run keeps what was chosen first
        tracker = Tracker(tracking)
        tracker.open_run(spec)
        tracker.log_parameters("a", {"chosen.training.steps_per_batch": steps})
        tracker.flush()
        assert tracker.take_failures() == {}
    found = runs()["first"].data.params
    assert found == {"training.steps_per_batch": "null", "chosen.training.steps_per_batch": "4"}


def test_what_cannot_be_written_now_is_written_later(
    tracking: TrackingConfig, runs: Callable[[], dict[str, Run]], tmp_path: Path
) -> None:
    tracker = Tracker(tracking)
    tracker.open_run(RunSpec("a", "first"))
    store, aside = tmp_path / "mlflow.db", tmp_path / "aside.db"
    store.rename(aside)
    store.mkdir()
    tracker.log("a", [point("loss/train", 2.0, 1)])
    with pytest.raises(MlflowException):
        tracker.flush(timeout_s=0.0)
    tracker.open_run(RunSpec("b", "second", params={"x": 1}))
    tracker.close("b", "FINISHED", {"network": "o-net"})
    store.rmdir()
    aside.rename(store)
    tracker.log("a", [point("loss/train", 1.0, 2)])
    tracker.flush()
    assert runs()["first"].data.metrics["loss/train"] == 1.0
    history = MlflowClient(tracking.uri).get_metric_history(runs()["first"].info.run_id, "loss/train")
    assert sorted((metric.step, metric.value) for metric in history) == [(1, 2.0), (2, 1.0)]
    second = runs()["second"]
    assert (second.info.status, second.data.params["x"]) == ("FINISHED", "1")
    assert second.data.tags["network"] == "o-net"


def test_what_the_store_rejects_is_counted_and_holds_nothing_up(
    tracking: TrackingConfig, runs: Callable[[], dict[str, Run]]
) -> None:
    tracker = Tracker(tracking)
    tracker.open_run(RunSpec("a", "first", params={"x": 1}))
    wrong = MetricPoint("loss/train", "no number", 1, 1)  # type: ignore[arg-type]
    for step in range(2):
        tracker.log("a", [wrong._replace(step=step), point("dice/val", 0.5, step)])
    tracker.open_run(RunSpec("a", "first", params={"y": 2}, tags={"network": "o-net"}))
    tracker.close("a", "FINISHED")
    tracker.flush()
    first = runs()["first"]
    assert (first.data.metrics, first.data.params) == ({"dice/val": 0.5}, {"x": "1", "y": "2"})
    assert (first.data.tags["network"], first.info.status) == ("o-net", "FINISHED")
    failures = tracker.take_failures()
    assert sum(failures.values()) == 2
    assert all(what.startswith("metric loss/train (Invalid value") for what in failures)
    assert tracker.take_failures() == {}


def test_a_tracker_that_is_killed_is_replaced(
    cluster: None, tracking: TrackingConfig, runs: Callable[[], dict[str, Run]], tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    with start_tracker(tracking, tmp_path / "run", study="s") as tracker:
        with mlflow_run(tracker, RunSpec("s", "study"), {"config.json": "{}"}):
            tracker.log.remote("s", [point("loss/train", 2.0, 1)])
            ray.kill(tracker, no_restart=False)
            tracker.open_run.remote(RunSpec("a", "first"))
            tracker.log.remote("a", [point("loss/train", 1.0, 1)])
            tracker.close.remote("a", "KILLED")
        assert ray.get(tracker.latest.remote("a")) == {"loss/train": 1.0, "step": 1}
    study, first = runs()["study"], runs()["first"]
    assert study.info.status == "FINISHED"
    assert study.data.metrics == {"loss/train": 2.0}
    assert first.info.status == "KILLED"
    assert first.data.tags["mlflow.parentRunId"] == study.info.run_id
    assert list((tmp_path / "run").iterdir()) == []


def test_a_job_that_is_killed_leaves_what_waits_to_the_next_one(
    cluster: None, tracking: TrackingConfig, runs: Callable[[], dict[str, Run]], tmp_path: Path
) -> None:
    """The store is away, and the tracker's process goes with its job's."""
    store, aside, output = tmp_path / "mlflow.db", tmp_path / "aside.db", tmp_path / "run"
    output.mkdir()
    with start_tracker(tracking, output) as tracker:
        ray.get(tracker.open_run.remote(RunSpec("a", "first", params={"x": 1})))
        store.rename(aside)
        store.mkdir()
        ray.get(tracker.log.remote("a", [point("loss/train", 2.0, 1), point("loss/train", 1.0, 2)]))
        ray.kill(tracker)
    assert [path.name for path in output.iterdir()] == [JOURNAL]
    store.rmdir()
    aside.rename(store)
    with start_tracker(tracking, output) as tracker:
        ray.get(tracker.flush.remote())
    assert runs()["first"].data.metrics == {"loss/train": 1.0}
    assert list(output.iterdir()) == []


def test_runs_whose_checkpoint_is_not_whole_are_known(tracking: TrackingConfig, tmp_path: Path) -> None:
    """Files come in the order of their names: without the last one some may be missing."""
    tracker = Tracker(tracking)
    for name, files in {"a": ["config.json", "version.json"], "b": ["config.json"], "c": []}.items():
        tracker.open_run(RunSpec(name, name))
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("{}")
        tracker.log_checkpoint(name, tmp_path / name)
    tracker.flush()
    assert tracker.without_checkpoint(["a", "b", "c"]) == ["b", "c"]
    (tmp_path / "b" / "version.json").write_text("{}")
    tracker.log_checkpoint("b", tmp_path / "b")
    tracker.flush()
    assert tracker.without_checkpoint(["a", "b", "c"]) == ["c"]


@pytest.mark.usefixtures("cluster")
def test_no_password_is_in_a_log_of_ray(
    tracking: TrackingConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the environment, and that in the URL of a server that does not answer."""
    import ray

    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pw-of-the-environment")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with start_tracker(tracking, tmp_path):
        pass
    away = replace(tracking, uri="http://me:pw-of-the-url@127.0.0.1:9", artifact_location=None)
    with pytest.raises(UserError, match=r"http://me:\*\*\*@"), start_tracker(away, tmp_path):
        pass
    folder = Path(ray._private.worker.global_worker.node.get_session_dir_path(), "logs")
    logs = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert any(b"does not answer" in text or b"expected an answer" in text for text in logs.values())
    assert not [file for file, text in logs.items() if b"pw-of-the" in text]
