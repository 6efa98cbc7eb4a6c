"""Regions through all jobs as a person runs them: prepare, train, evaluate, predict."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import nibabel
import numpy as np
import pytest

from ossnet.data import Store, write_phantom
from ossnet.data.labels.presets import choose_regions

Job = Callable[..., CompletedProcess[str]]


@pytest.mark.usefixtures("cluster", "mlflow_store")
def test_from_scans_with_regions_to_segmentations(
    run_job: Job, tiny_training: list[str], tiny_network: list[str], tmp_path: Path
) -> None:
    scans = write_phantom(tmp_path / "scans", cases=6, shape=(20, 18, 16))
    regions = ("--regions", "WT=1,2,3", "TC=2,enhancing", "ET=3")
    done = run_job("prepare", "--source", scans, "--output", "store", *regions, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["prepared"] == 6
    task = Store.open(tmp_path / "store").task
    assert task.regions == choose_regions("brats-regions", (), task.labels)

    trained = run_job(
        "train",
        "--data",
        "store",
        "--output",
        "run",
        *tiny_training,
        *tiny_network,
        "--epochs",
        "2",
        "--json",
    )
    assert trained.returncode == 0, trained.stderr
    metrics = json.loads(trained.stdout.strip().splitlines()[-1])["metrics"]
    dice = [metrics[f"dice/val/{region}"] for region in ("WT", "TC", "ET")]
    assert abs(metrics["dice/val"] - np.mean(dice)) < 1e-9
    saved = json.loads((tmp_path / "run" / "checkpoint" / "task.json").read_text())
    assert saved["regions"] == {
        "WT": list(task.labels),
        "TC": ["non-enhancing", "enhancing"],
        "ET": ["enhancing"],
    }

    of = ("--checkpoint", "run/checkpoint")
    scored = run_job("evaluate", *of, "--data", "store", "--output", "scored")
    assert scored.returncode == 0, scored.stderr
    assert "dice/ET" in scored.stdout
    (row, *_) = csv.DictReader((tmp_path / "scored" / "cases.csv").open())
    label = Store.open(tmp_path / "store").case(row["case"]).label
    counts = [int(row[f"label_voxels/{region}"]) for region in ("WT", "TC", "ET")]
    assert counts == [np.count_nonzero(np.isin(label, each)) for each in ([1, 2, 3], [2, 3], [3])]

    hierarchical = ("--method", "hierarchical", "--output", "out", "--json")
    predicted = run_job("predict", *of, "--input", scans, *hierarchical)
    assert predicted.returncode == 0, predicted.stderr
    cases = json.loads(predicted.stdout)["cases"]
    assert [list(case["volumes_ml"]) for case in cases] == [["WT", "TC", "ET"]] * 6
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 6
    for case in cases:
        values = np.unique(np.asarray(nibabel.load(tmp_path / case["output"]).dataobj))
        assert set(values.tolist()) <= {0, 1, 2, 3}
