"""No name, no file and no artifact store keeps a metric from MLflow, or a run from its end."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from ossnet.distributed.tracking import actor
from ossnet.distributed.tracking.actor import MetricBuffer, start_tracker
from ossnet.distributed.tracking.client import MetricPoint, RunSpec, Tracker, TrackingConfig
from ossnet.distributed.tracking.names import legal_experiment, legal_key, original_keys
from ossnet.distributed.tracking.store import open_client
from ossnet.errors import UserError

NAMES = (
    "Kidney (left)",
    "tumour & cyst",
    "a,b+c",
    "",
    "..",
    "肝臓",
    "😀",
    "a" * 300,
    "a" * 301,
    "\udce9t\udce9",
)


pytestmark = pytest.mark.usefixtures("mlflow_store")


def run_of(tracking: TrackingConfig) -> Run:
    client = open_client(tracking.uri)
    experiment = tracking.find_experiment(client)
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    return run


def test_every_class_has_its_metric(tmp_path: Path) -> None:
    tracking = TrackingConfig.at(tmp_path, "e")
    tracker = Tracker(tracking)
    tracker.open_run(RunSpec("r", "r", params=dict.fromkeys(NAMES, "x"), tags=dict.fromkeys(NAMES, "\udce9")))
    for step in range(3):
        values = [(f"dice/val/{name}", number + step / 8) for number, name in enumerate(NAMES)]
        tracker.log(
            "r", [MetricPoint(name, value, step, step) for name, value in [*values, ("dice/val", 0.5)]]
        )
    tracker.close("r", "FINISHED")
    tracker.flush()
    assert tracker.take_failures() == {}
    run = run_of(tracking)
    originals = original_keys(run.data.tags)
    metrics = {originals.get(name, name): value for name, value in run.data.metrics.items()}
    expected = {f"dice/val/{name}": number + 0.25 for number, name in enumerate(NAMES)}
    assert metrics == expected | {"dice/val": 0.5}
    assert {originals.get(name, name) for name in run.data.params} == set(NAMES)
    assert run.data.tags[legal_key("Kidney (left)")] == "\\udce9"
    again = Tracker(tracking)  # and a resumed run repeats none
    again.open_run(RunSpec("r", "r"))
    again.log("r", [MetricPoint("dice/val/Kidney (left)", 9.0, 2, 2)])
    assert run_of(tracking).data.metrics[legal_key("dice/val/Kidney (left)")] == 0.25


@pytest.mark.parametrize("broken", ["a file", "read-only", "away"])
def test_files_that_cannot_be_written_hold_nothing_up(broken: str, tmp_path: Path) -> None:
    locations = {
        "a file": tmp_path / "file" / "runs",
        "read-only": Path("/proc/runs"),
        "away": Path("/dev/null/runs"),
    }
    (tmp_path / "file").write_text("")
    tracking = TrackingConfig.at(tmp_path, "liver")
    open_client(tracking.uri).create_experiment("liver", artifact_location=locations[broken].as_uri())
    began = time.monotonic()
    tracker = Tracker(tracking)
    tracker.open_run(RunSpec("r", "r"))
    tracker.log_text("r", "text", "config.json")
    for step in range(3):
        tracker.log("r", [MetricPoint("dice/val", 0.5, step, step)])
    tracker.close("r", "FINISHED")
    tracker.log_checkpoint("r", tmp_path)
    tracker.flush()
    assert time.monotonic() - began < 30
    run = run_of(tracking)
    assert (run.data.metrics, run.info.status) == ({"dice/val": 0.5}, "FINISHED")
    failures = tracker.take_failures()
    assert any(what.startswith("config.json (") for what in failures)
    assert any(what.startswith("checkpoint/file (") for what in failures)


def test_files_wait_for_their_store_in_a_queue_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = TrackingConfig.at(tmp_path, "e")
    tracker = Tracker(tracking)

    def refuse(*arguments: object, **more: object) -> None:
        raise ConnectionResetError("gone")

    monkeypatch.setattr(MlflowClient, "log_text", refuse)
    tracker.open_run(RunSpec("r", "r"))
    tracker.log_text("r", "text", "config.json")
    tracker.log("r", [MetricPoint("dice/val", 0.5, 0, 0)])
    tracker.close("r", "FINISHED")
    with pytest.raises(ConnectionResetError):
        tracker.flush(timeout_s=0.0)
    assert run_of(tracking).info.status == "FINISHED"
    assert tracker.take_failures() == {"config.json (the store does not answer)": 1}


@pytest.mark.parametrize("name", ["it's", "a/b:c", "100%", "", " ", "x" * 600, "\udce9", "new\nline"])
def test_every_experiment_has_a_name(name: str, tmp_path: Path) -> None:
    tracking = TrackingConfig.at(tmp_path, name)
    Tracker(tracking).open_run(RunSpec("r", name, params={"x": 1}))
    assert tracking.has_experiment()
    assert run_of(tracking).data.params == {"x": "1"}
    assert not TrackingConfig.at(tmp_path, f"{name}?").has_experiment()
    assert len(legal_experiment(name)) <= 500


@pytest.mark.parametrize("text", ["no database at all, " * 20, None])
def test_a_store_that_cannot_be_used_is_one_line(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "none" / "mlflow.db"
    path.parent.mkdir()
    path.mkdir() if text is None else path.write_text(text)
    began = time.monotonic()
    with pytest.raises(
        UserError, match=r"mlflow\.db: expected a SQLite file that can be written, found"
    ) as error:
        Tracker(TrackingConfig.at(path.parent, "e"))
    assert "\n" not in str(error.value)
    assert time.monotonic() - began < 10


def test_a_server_that_does_not_answer_is_one_line() -> None:
    with pytest.raises(UserError, match="expected an answer") as error:
        Tracker(TrackingConfig("http://127.0.0.1:9", "e", None))
    assert "\n" not in str(error.value)


def history(tracking: TrackingConfig, name: str) -> list[tuple[int, float]]:
    client = open_client(tracking.uri)
    points = client.get_metric_history(run_of(tracking).info.run_id, name)
    return sorted((point.step, point.value) for point in points)


@pytest.fixture
def own_folder(mlflow_store: Path, tmp_path: Path) -> Path:
    """A folder with the store of runs alone."""
    folder = tmp_path / "mlflow"
    folder.mkdir()
    mlflow_store.rename(folder / mlflow_store.name)
    return folder


@pytest.mark.chaos("the tracker killed while MLflow is away")
def test_what_waits_outlives_the_tracker(own_folder: Path, tmp_path: Path) -> None:
    """As where its process is killed while the store is away: a file may be cut at any byte."""
    tracking, journal = TrackingConfig.at(own_folder, "e"), tmp_path / "journal"
    store, aside = own_folder / "mlflow.db", own_folder / "aside.db"
    tracker = Tracker(tracking, journal=journal)
    tracker.open_run(RunSpec("r", "r"))
    tracker.log("r", [MetricPoint("dice/val", 0.1, 1, 1)])
    assert not journal.exists()  # all is written
    store.rename(aside)
    store.mkdir()
    tracker.log("r", [MetricPoint("dice/val", 0.2, 2, 2), MetricPoint("loss/train", 9.0, 2, 2)])
    tracker.log_text("r", "text", "config.json")
    tracker.close("r", "FINISHED", {"best": "yes"})
    with journal.open("ab") as file:
        file.write(b'["log", "r", [["dice')
    del tracker
    store.rmdir()
    aside.rename(store)
    again = Tracker(tracking, journal=journal)
    again.log("r", [MetricPoint("dice/val", 0.2, 2, 2)])  # as Ray repeats the call that ran
    again.flush()
    assert again.take_failures() == {}
    assert history(tracking, "dice/val") == [(1, 0.1), (2, 0.2)]
    assert history(tracking, "loss/train") == [(2, 9.0)]
    assert (run_of(tracking).info.status, run_of(tracking).data.tags["best"]) == ("FINISHED", "yes")
    assert not journal.exists()


def test_what_waits_outlives_several_trackers_and_comes_back_as_it_was(
    own_folder: Path, tmp_path: Path
) -> None:
    """Each is killed while the store is away, in the middle of a line; names and values of every kind."""
    tracking, journal = TrackingConfig.at(own_folder, "e"), tmp_path / "journal"
    store, aside = own_folder / "mlflow.db", own_folder / "aside.db"
    params = {"channels": (4, 8), "none": None, "\udce9": "a\nb", "rate": 1e-300}
    trackers = [Tracker(tracking, journal=journal) for _ in range(2)]
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "config.json").write_text("{}")
    store.rename(aside)
    store.mkdir()
    trackers[0].open_run(RunSpec("r", "r", params, {"肝臓": "\u2028"}))
    trackers[0].log("r", [MetricPoint("a\nb", float("inf"), 1, 1), MetricPoint("x", float("nan"), 1, 1)])
    with journal.open("ab") as file:
        file.write(b'["log", "r", [["dice')
    trackers[1].log("r", [MetricPoint("\udce9", -0.0, 1, 1)])
    trackers[1].log_checkpoint("r", tmp_path / "checkpoint")
    with journal.open("ab") as file:
        file.write(b'["log", "r"')
    store.rmdir()
    aside.rename(store)
    again = Tracker(tracking, journal=journal)
    again.flush()
    assert again.take_failures() == {}
    run = run_of(tracking)
    originals = original_keys(run.data.tags)
    metrics = {originals.get(name, name): value for name, value in run.data.metrics.items()}
    assert metrics.keys() == {"a\nb", "x", "\udce9"}
    assert metrics["a\nb"] > 1e300  # as a database has it
    found = {originals.get(name, name): value for name, value in run.data.params.items()}
    assert found == {"channels": "(4, 8)", "none": "null", "\udce9": "a\nb", "rate": "1e-300"}
    (artifact,) = open_client(tracking.uri).list_artifacts(run.info.run_id, "checkpoint")
    assert artifact.path == "checkpoint/config.json"


def test_failures_outlive_the_tracker_and_are_said_once(tmp_path: Path) -> None:
    tracking, journal = TrackingConfig.at(tmp_path, "e"), tmp_path / "journal"
    tracker = Tracker(tracking, journal=journal)
    tracker.open_run(RunSpec("r", "r"))
    tracker.log("r", [MetricPoint("dice/val", "no number", 1, 1)])  # type: ignore[arg-type]
    tracker.log_checkpoint("r", tmp_path)
    tracker.log("r", [MetricPoint("loss/train", 1.0, 1, 1)])
    again = Tracker(tracking, journal=journal)
    (failure,) = again.take_failures().items()
    assert failure[0].startswith("metric dice/val (")
    assert failure[1] == 1
    assert Tracker(tracking, journal=journal).take_failures() == {}


def test_a_journal_that_cannot_be_written_holds_nothing_up(tmp_path: Path) -> None:
    tracking = TrackingConfig.at(tmp_path, "e")
    tracker = Tracker(tracking, journal=Path("/proc/none/journal"))
    tracker.open_run(RunSpec("r", "r"))
    tracker.log("r", [MetricPoint("dice/val", 0.5, 1, 1)])
    tracker.flush()
    assert history(tracking, "dice/val") == [(1, 0.5)]


def test_a_metric_may_be_called_as_a_parameter_and_a_tag(tmp_path: Path) -> None:
    tracking = TrackingConfig.at(tmp_path, "e")
    tracker = Tracker(tracking)
    tracker.open_run(RunSpec("r", "r", params={"dice/val": "param"}, tags={"dice/val": "tag"}))
    tracker.log("r", [MetricPoint("dice/val", 0.5, 1, 1)])
    data = run_of(tracking).data
    assert (data.metrics, data.params) == ({"dice/val": 0.5}, {"dice/val": "param"})
    assert data.tags["dice/val"] == "tag"
    assert tracker.take_failures() == {}


@pytest.mark.parametrize("name", ["100%.json", "肝臓.json", "a b?.json", "..", "x" * 300 + ".json"])
def test_a_file_of_any_name_is_an_artifact(name: str, mlflow_store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "50% of ü"
    folder.mkdir()
    mlflow_store.rename(folder / "mlflow.db")
    tracking = TrackingConfig.at(folder, "e")
    tracker = Tracker(tracking)
    tracker.open_run(RunSpec("r", "r"))
    tracker.log_text("r", "text", name)
    tracker.flush()
    assert tracker.take_failures() == {}
    (artifact,) = open_client(tracking.uri).list_artifacts(run_of(tracking).info.run_id)
    assert artifact.file_size == 4


def test_metrics_of_a_run_that_was_deleted_while_it_trains_are_counted(tmp_path: Path) -> None:
    """MLflow refuses them; a person deleted the run, and hears what went with it."""
    tracking = TrackingConfig.at(tmp_path, "e")
    tracker = Tracker(tracking)
    run = tracker.open_run(RunSpec("r", "r"))
    tracker.log("r", [MetricPoint("dice/val", 0.5, 1, 1)])
    client = open_client(tracking.uri)
    client.delete_run(run)
    for step in (2, 3):
        tracker.log("r", [MetricPoint("dice/val", 0.5, step, step), MetricPoint("loss/train", 1, step, step)])
    tracker.close("r", "FINISHED")
    tracker.flush()
    failures = tracker.take_failures()
    assert sum(count for what, count in failures.items() if what.startswith("metric dice/val")) == 2
    assert sum(count for what, count in failures.items() if what.startswith("metric loss/train")) == 2


def test_a_store_on_a_full_disk_is_a_line_for_each_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite has an error of its own, of which MLflow makes one in many lines."""
    tracking = TrackingConfig.at(tmp_path, "e")
    tracker = Tracker(tracking)

    def refuse(*arguments: object, **more: object) -> None:
        raise RuntimeError("(raised as a result of autoflush)\n(sqlite3.Error) database or disk is full")

    tracker.open_run(RunSpec("r", "r"))
    monkeypatch.setattr(MlflowClient, "log_batch", refuse)
    tracker.open_run(RunSpec("r", "r", dict.fromkeys("abc", 1), dict.fromkeys("de", "x")))
    for step in range(3):
        tracker.log("r", [MetricPoint("dice/val", 0.5, step, step), MetricPoint("loss/train", 1, step, step)])
    tracker.flush()
    full = "No space left on device"
    assert tracker.take_failures() == {f"params ({full})": 3, f"tags ({full})": 2, f"metrics ({full})": 6}


@pytest.mark.usefixtures("cluster")
def test_no_checkpoint_is_ahead_of_mlflow_unless_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking = TrackingConfig.at(tmp_path, "e")
    with start_tracker(tracking, tmp_path) as tracker:
        buffer = MetricBuffer(tracker, "r")
        for step in range(1, 6):
            buffer.epoch({"step": float(step), "loss": 0.5}, delivered=True)
            history = open_client(tracking.uri).get_metric_history(run_of(tracking).info.run_id, "loss")
            assert [point.step for point in history] == list(range(1, step + 1))
        monkeypatch.setattr(actor, "_DELIVERY_S", 1.0)
        with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            took = []
            for step in range(6, 9):
                began = time.monotonic()
                buffer.epoch({"step": float(step), "loss": 0.5}, delivered=True)
                took.append(time.monotonic() - began)
            other.execute("ROLLBACK")
        assert took[0] >= 1.0 > sum(took[1:])
        buffer.epoch({"step": 9.0, "loss": 0.5})
        actor.flush([], tracker)
    history = open_client(tracking.uri).get_metric_history(run_of(tracking).info.run_id, "loss")
    assert [point.step for point in history] == list(range(1, 10))
