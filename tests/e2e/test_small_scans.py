"""A scan far smaller than any network expects, from the file to predictions on its own grid."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import nibabel
import numpy as np
import pytest

Job = Callable[..., CompletedProcess[str]]


@pytest.fixture
def scans(shared: Path, tmp_path: Path) -> Path:
    """Six times the scan of 7 x 5 x 3 voxels, which is its own label."""
    folder, path = tmp_path / "scans", shared / "data" / "headers" / "low_res.nii.gz"
    cases = []
    for number in range(6):
        case = {"image": f"images/low_{number}.nii.gz", "label": f"labels/low_{number}.nii.gz"}
        for name in case.values():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / name)
        cases.append(case)
    document = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "shape"}, "training": cases}
    (folder / "dataset.json").write_text(json.dumps(document))
    return folder


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize("model", ["oss-net-d", "feature-query-patch", "unet-3d"])
def test_a_scan_of_7_x_5_x_3_voxels_trains(scans: Path, run_job: Job, tmp_path: Path, model: str) -> None:
    done = run_job(
        "prepare", "--source", scans, "--output", "store", "--folds", "3", "--normalization", "zscore"
    )
    assert done.returncode == 0, done.stderr
    options = (
        "--epochs",
        "2",
        "--training.batch-size",
        "2",
        "--sampling.points",
        "64",
        "--training.fold",
        "2",
    )
    done = run_job("train", "--data", "store", "--model", model, "--output", "run", *options, "--json")
    assert done.returncode == 0, done.stderr
    done = run_job(
        "predict", "--checkpoint", "run/checkpoint", "--input", scans / "images", "--output", "found"
    )
    assert done.returncode == 0, done.stderr
    given, found = (
        nibabel.load(scans / "images" / "low_3.nii.gz"),
        nibabel.load(tmp_path / "found" / "low_3_seg.nii.gz"),
    )
    assert found.shape == (7, 5, 3)
    np.testing.assert_allclose(found.affine, given.affine)
    done = run_job(
        "evaluate", "--checkpoint", "run/checkpoint", "--data", "store", "--output", "scores", "--json"
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["fold"] == 2
    assert json.loads(done.stdout)["cases"] == 2
