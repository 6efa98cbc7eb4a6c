"""What MLflow shows of a run: its data set, a description with the command, and no password."""

import json
import sys
from base64 import b64encode
from pathlib import Path

import pytest
from mlflow import MlflowClient

from ossnet.data import Store
from ossnet.distributed.tracking.client import RunSpec, Tracker, TrackingConfig
from ossnet.distributed.tracking.description import NOTE, dataset_of, describe, store_name
from ossnet.metric_names import MEMORY, VAL_DICE


def test_a_run_has_its_store_as_data_set_once(store: Store, mlflow_store: Path, tmp_path: Path) -> None:
    tracking = TrackingConfig(f"sqlite:///{mlflow_store}", "mine", (tmp_path / "artifacts").as_uri())
    tracker = Tracker(tracking)
    run = tracker.open_run(RunSpec("a", "a", tags={NOTE: describe("o-net", store)}))
    for _ in range(2):  # as a resumed run does
        tracker.log_input("a", dataset_of(store))
    tracker.flush()
    assert not tracker.take_failures()
    client = MlflowClient(tracking.uri)
    (found,) = client.get_run(run).inputs.dataset_inputs
    assert found.dataset.digest == store.manifest.fingerprint[:36]
    assert json.loads(found.dataset.source) == {"uri": str(store.root)}
    profile = json.loads(found.dataset.profile)
    assert profile["modalities"] == list(store.task.modalities)
    assert (profile["training"], profile["validation"]) == (8, 2)
    experiment = client.get_experiment(client.get_run(run).info.experiment_id)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    assert client.get_run(run).data.tags[NOTE].startswith("**o-net** on ")


def test_a_description_says_what_it_came_to_and_how_it_was_made(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["/usr/bin/ossnet", "train", "--data", "s3://key:secret@bucket/a b", "--epochs", "5"]
    monkeypatch.setattr(sys, "argv", arguments)
    text = describe("o-net", store, {VAL_DICE: 0.5, MEMORY: 1.25}, {"rate": 0.125})
    assert "Dice **0.5000** (validation), peak memory 1.250 GiB" in text
    assert "- rate: `0.125`" in text
    assert "ossnet train --data 's3://key:***@bucket/a b' --epochs 5" in text
    assert "Dice" not in describe("o-net", store)


def test_a_description_shows_the_pictures_of_its_run(
    store: Store, mlflow_store: Path, tmp_path: Path
) -> None:
    tracking = TrackingConfig(f"sqlite:///{mlflow_store}", "mine", (tmp_path / "artifacts").as_uri())
    tracker = Tracker(tracking)
    run = tracker.open_run(RunSpec("a", "a", tags={NOTE: "begins"}))
    for case in ("case 1", "case_2", "case 1"):
        tracker.log_picture("a", b64encode(b"png").decode(), f"{case}.png")
    tracker.flush()
    tracker.close("a", "FINISHED", {NOTE: "ended"})
    tracker.flush()
    assert not tracker.take_failures()
    title, *pictures = MlflowClient(tracking.uri).get_run(run).data.tags[NOTE].split("\n\n")
    assert title == "ended"
    assert pictures == [
        f"![{name}](get-artifact?path=overlays%2F{quoted}.png&run_uuid={run})"
        for name, quoted in (("case 1", "case%201"), ("case_2", "case_2"))
    ]


def test_a_store_called_store_is_named_after_its_folder(store: Store) -> None:
    named = Store(Path("runs/hearts/store"), store.manifest), Store("s3://bucket/brains", store.manifest)
    assert [store_name(each) for each in named] == ["hearts/store", "brains"]
