"""The Model Registry: what a stranger loads from it segments NIfTI files as the checkpoint does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from ossnet.config_tree import to_dict
from ossnet.data import Task
from ossnet.distributed.tracking.client import MetricPoint, RunSpec, Tracker, TrackingConfig
from ossnet.distributed.tracking.model_registry import register
from ossnet.distributed.tracking.names import legal_model
from ossnet.inference import InferenceConfig, Predictor
from ossnet.models import OccupancyConfig, network_from_config
from ossnet.sampling import SamplingConfig
from ossnet.training.checkpoint import save_checkpoint

TASK = Task(modalities=("FLAIR", "T1w"), labels={"lesion": 5}, normalization="zscore")
ALLOWED = {".py", ".pyi", ".typed", ".html", ".json", ".safetensors", ".yaml", ".txt", ""}
LOAD = """
import json, sys
import mlflow, pandas
uri, address, scans = json.loads(sys.argv[1])
mlflow.set_tracking_uri(uri)
model = mlflow.pyfunc.load_model(address)
found = model.predict(pandas.DataFrame(scans), params={"output": "labels"})
rows = json.loads(found.to_json(orient="records"))
print(json.dumps({"package": sys.modules["ossnet"].__file__, "rows": rows}))
"""


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = OccupancyConfig(
        in_channels=2,
        encoder_channels=(4,),
        latent_grid=(2, 2, 2),
        decoder_width=8,
        decoder_blocks=1,
        patch_edge=3,
        encoder_downscale=1,
    )
    config = {"model": to_dict(model), "sampling": to_dict(SamplingConfig(working_shape=(8, 8, 8)))}
    config |= {"inference": to_dict(InferenceConfig()), "training": {"epochs": 1}}
    documents = {"config.json": json.dumps(config), "task.json": json.dumps(TASK.to_dict())}
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, network=network_from_config(model), documents=documents, state={"a": 1})
    return folder


@pytest.fixture
def tracking(mlflow_store: Path, tmp_path: Path) -> TrackingConfig:
    return TrackingConfig(f"sqlite:///{mlflow_store}", "mine", (tmp_path / "artifacts").as_uri())


def scan(path: Path, channels: int | None, seed: int) -> Path:
    shape = (6, 7, 8) if channels is None else (6, 7, 8, channels)
    values = np.random.default_rng(seed).random(shape).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([1.0, 2.0, 3.0, 1.0])), path)
    return path


def loaded(
    tracking: TrackingConfig, address: str, rows: list[dict[str, Any]], folder: Path
) -> dict[str, Any]:
    """What the registered model answers in a process that has no other ossnet before it."""
    folder.mkdir()
    argument = json.dumps([tracking.uri, address, rows])
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", LOAD, argument]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_a_registered_network_segments_files_as_its_checkpoint_does(
    checkpoint: Path, tracking: TrackingConfig, tmp_path: Path
) -> None:
    tracker = Tracker(tracking)
    tracker.open_run(RunSpec("a", "first", params={"model.decoder_width": 8}))
    tracker.log("a", [MetricPoint("dice/val", 0.5, 1, 1_700_000_000_000)])
    address = tracker.register("a", checkpoint, "brains/first: all")
    assert address == f"models:/{legal_model('brains/first: all')}/1"

    whole = scan(tmp_path / "whole.nii.gz", 2, seed=1)
    parts = [
        scan(tmp_path / f"case_{name}.nii.gz", None, seed=number)
        for number, name in enumerate(("t1", "flair"))
    ]
    rows = [
        {"image": str(whole)},
        {"T1w": str(parts[0]), "FLAIR": str(parts[1])},
        {"image": str(tmp_path / "missing.nii.gz")},
    ]
    answer = loaded(tracking, address, rows, tmp_path / "elsewhere")
    assert (tmp_path / "artifacts") in Path(answer["package"]).parents
    first, second, missing = answer["rows"]
    predictor = Predictor.from_checkpoint(checkpoint)
    for row, case, images in ((first, "whole", whole), (second, "case", [parts[1], parts[0]])):
        expected = predictor(images)
        image = nibabel.load(row["segmentation"])
        assert row["case"] == case
        assert Path(row["segmentation"]) == tmp_path / "elsewhere" / "labels" / f"{case}_seg.nii.gz"
        np.testing.assert_array_equal(np.asarray(image.dataobj), expected.labels)
        np.testing.assert_array_equal(image.affine, np.diag([1.0, 2.0, 3.0, 1.0]))
        assert row["lesion_ml"] == pytest.approx(expected.volumes_ml["lesion"])
    assert missing["segmentation"] is None
    assert "missing.nii.gz: expected a file or folder, found no such file" in missing["error"]


def test_a_run_is_registered_once_and_without_pickle(
    checkpoint: Path, tracking: TrackingConfig, tmp_path: Path
) -> None:
    tracker = Tracker(tracking)
    runs = [tracker.open_run(RunSpec(name, name)) for name in "ab"]
    client = MlflowClient(tracking.uri)
    addresses = [register(client, run, checkpoint, "mine") for run in (runs[0], runs[0], runs[1])]
    assert addresses == ["models:/mine/1", "models:/mine/1", "models:/mine/2"]
    versions = client.search_model_versions("name = 'mine'")
    assert {each.run_id for each in versions} == set(runs)
    files = [path for path in (tmp_path / "artifacts").rglob("*") if path.is_file()]
    assert "model.safetensors" in {path.name for path in files}
    assert "state.pt" not in {path.name for path in files}
    assert {path.suffix for path in files} <= ALLOWED


def test_the_champion_is_the_best_whichever_came_last(checkpoint: Path, tracking: TrackingConfig) -> None:
    tracker, client, champions = Tracker(tracking), MlflowClient(tracking.uri), list[str]()
    for name, dice in (("a", 0.5), ("b", 0.75), ("c", 0.625)):
        run = tracker.open_run(RunSpec(name, name, tags={"network": "o-net", "store": "runs/store"}))
        now = 1_700_000_000_000
        tracker.log_input(name, {"name": "brains", "digest": "abc", "source": "s", "profile": "{}"})
        tracker.log(
            name, [MetricPoint("dice/val", value, step, now) for step, value in ((1, 0.25), (2, dice))]
        )
        tracker.log(name, [MetricPoint("system/cpu", 1.0, 1, now)])
        register(client, run, checkpoint, "mine")
        assert len(client.get_metric_history(run, "dice/val")) == 2
        champions.append(client.get_model_version_by_alias("mine", "champion").version)
    assert list(map(int, champions)) == [1, 2, 2]
    champion = client.get_model_version_by_alias("mine", "champion")
    logged = client.search_logged_models([client.get_run(champion.run_id).info.experiment_id])
    (model,) = [each for each in logged if each.source_run_id == champion.run_id]
    (metric,) = model.metrics
    (output,) = client.get_run(champion.run_id).outputs.model_outputs
    assert output.model_id == model.model_id
    of = ("dice/val", 0.75, "brains", "abc")
    assert (metric.key, metric.value, metric.dataset_name, metric.dataset_digest) == of
    best = champion.description
    assert all(text in best for text in ("**o-net**: lesion", "FLAIR, T1w", "`runs/store`", "Dice 0.7500"))
    assert "`champion` is the one" in client.get_registered_model("mine").description
