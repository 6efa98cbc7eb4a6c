"""jobs/predict.py and jobs/evaluate.py as a person runs them."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from ray_workers import busy, kill

from ossnet.config import Config
from ossnet.data import Store, Task, write_phantom
from ossnet.data.store.training_range import TRAINING_RANGE, TrainingRange
from ossnet.inference import Predictor
from ossnet.models import UNetConfig, network_config, network_from_config
from ossnet.sampling import SamplingConfig
from ossnet.training.checkpoint import save_checkpoint

ROOT = Path(__file__).parents[2]
Job = Callable[..., subprocess.CompletedProcess[str]]
BRATS = Task(modalities=("FLAIR", "T1w", "T1gd", "T2w"), labels={"necrosis": 1, "edema": 2, "enhancing": 4})


def job_at_work(name: str, *options: object) -> subprocess.Popen[str]:
    command = [sys.executable, ROOT / "jobs" / f"{name}.py", *options]
    # One thread: on a busy machine several wait for one another, ten times as long.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    parts, pipe = [str(part) for part in command], subprocess.PIPE
    return subprocess.Popen(parts, stdout=pipe, stderr=pipe, text=True, env=environment)


def run_alone(name: str, *options: object) -> subprocess.CompletedProcess[str]:
    with job_at_work(name, *options) as process:
        printed, errors = process.communicate()
    return subprocess.CompletedProcess([name], process.returncode, printed, errors)


def small(config: Config) -> Config:
    if isinstance(config.model, UNetConfig):
        return replace(config, model=replace(config.model, channels=(2, 4), residual_units=1))
    sizes = {"encoder_channels": (4, 4), "decoder_width": 8, "decoder_blocks": 1, "patch_edge": 3}
    return replace(config, model=replace(config.model, **sizes, latent_grid=(2, 2, 2)))


def save(folder: Path, config: Config, task: Task) -> Path:
    torch.manual_seed(0)
    documents = {"config.json": config.to_json(), "task.json": json.dumps(task.to_dict())}
    save_checkpoint(folder, network=network_from_config(config.model), documents=documents, state={})
    return folder


@pytest.fixture(scope="module")
def checkpoint(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network for the phantom study."""
    store = Store.open(phantom_store)
    config = small(Config.preset("oss-net-c", store).resolve_for(store))
    return save(tmp_path_factory.mktemp("run") / "checkpoint", config, store.task)


@pytest.fixture(scope="module")
def scans(phantom_store: Path) -> list[Path]:
    """The images that the phantom study was prepared from, of several orientations."""
    return sorted((phantom_store.parent / "source" / "imagesTr").iterdir())


def results(folder: Path) -> list[Path]:
    """All but the records of what made them."""
    return sorted(path for path in folder.iterdir() if path.name not in {"records", ".ossnet.json"})


def same_grid(path: Path, like: Path, values: set[int]) -> None:
    result, scan = nibabel.load(path), nibabel.load(like)
    assert result.shape == scan.shape[:3]
    assert np.array_equal(result.affine, scan.affine)
    for code in ("sform_code", "qform_code"):
        assert result.header[code] == scan.header[code]
    assert set(np.unique(np.asarray(result.dataobj)).tolist()) <= values


def test_predict_a_folder_of_4d_scans(
    run_job: Job, checkpoint: Path, scans: list[Path], tmp_path: Path
) -> None:
    source = scans[0].parents[1]
    done = run_job("predict", "--checkpoint", checkpoint, "--input", source, "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    written = results(tmp_path / "out")
    assert [path.name for path in written] == [scan.name.replace(".nii", "_seg.nii") for scan in scans]
    for path, scan in zip(written, scans, strict=True):
        same_grid(path, scan, {0, 1, 2, 3})
    assert f"{len(scans)} in {tmp_path / 'out'}" in done.stdout


def test_a_bad_scan_among_good_ones(
    run_job: Job, checkpoint: Path, scans: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "cut.nii.gz").write_bytes(scans[0].read_bytes()[:5000])
    nibabel.save(nibabel.Nifti1Image(np.zeros((9, 9, 9), np.int16), np.eye(4)), tmp_path / "single.nii.gz")
    inputs = [tmp_path / "cut.nii.gz", scans[0], tmp_path / "single.nii.gz", scans[1]]
    output = tmp_path / "out"
    done = run_job("predict", "--checkpoint", checkpoint, "--output", output, "--json", "--input", *inputs)
    assert done.returncode == 2
    first, second = done.stderr.strip().splitlines()
    assert "cut.nii.gz" in first
    assert "truncated" in first
    assert "single.nii.gz" in second
    assert "4 modalities" in second
    result = json.loads(done.stdout.strip().splitlines()[-1])
    assert result["failed"] == 2
    written = {Path(case["output"]).name for case in result["cases"] if case["output"]}
    assert written == {path.name for path in results(output)}
    assert len(written) == 2


def cases_of(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, object]]:
    return {case["case"]: case for case in json.loads(done.stdout.strip().splitlines()[-1])["cases"]}


def test_the_same_again_does_what_is_missing(
    run_job: Job, checkpoint: Path, scans: list[Path], tmp_path: Path
) -> None:
    """Not what is there; but a lost file, an exchanged scan, and everything in another manner."""
    for scan in scans[:3]:
        shutil.copy(scan, tmp_path / scan.name)
    inputs, output = sorted(tmp_path.glob("*.nii*")), tmp_path / "out"
    options = ("--checkpoint", checkpoint, "--output", output, "--volumes", "--json", "--input", *inputs)
    first = cases_of(run_job("predict", *options))
    assert not any(case["cached"] for case in first.values())
    lost, exchanged, same = first
    (output / f"{lost}_volumes.json").unlink()
    os.utime(inputs[1], (0, 0))
    again = cases_of(run_job("predict", *options))
    assert {name for name, case in again.items() if case["cached"]} == {same}
    assert again[exchanged]["volumes_ml"] == first[exchanged]["volumes_ml"]
    assert (output / f"{lost}_volumes.json").is_file()
    done = run_job("predict", *options, "--method", "hierarchical")
    assert not any(case["cached"] for case in cases_of(done).values())
    (output / "records" / f"{same}.json").write_text("{}")
    done = run_job("predict", *options)
    assert done.returncode == 2
    assert "remove it" in done.stderr


def test_a_scan_unlike_the_training_data_is_named_each_time(
    run_job: Job, checkpoint: Path, phantom_store: Path, scans: list[Path], tmp_path: Path
) -> None:
    trained = Path(shutil.copytree(checkpoint, tmp_path / "run" / "checkpoint"))
    (trained / TRAINING_RANGE).write_text(TrainingRange.of(Store.open(phantom_store)).to_json())
    image = nibabel.load(scans[0])
    bright = nibabel.Nifti1Image(image.get_fdata(dtype=np.float32) * 100, image.affine)
    nibabel.save(bright, tmp_path / "bright.nii.gz")
    inputs = ("--input", scans[1], tmp_path / "bright.nii.gz")
    options = ("--checkpoint", trained, "--output", tmp_path / "out", *inputs)
    usual, unlike = cases_of(run_job("predict", *options, "--json")).values()
    assert usual["unlike"] == []
    assert [str(each).split()[:2] for each in unlike["unlike"]] == [  # type: ignore[attr-defined]
        ["mean", name] for name in BRATS.modalities
    ]
    done = run_job("predict", *options)  # which finds them in its records
    (line,) = [line for line in done.stdout.splitlines() if "unlike the training data: mean FLAIR" in line]
    assert "bright" in line
    assert "unlike the training data  1, as above" in done.stdout


def test_all_that_can_be_written(run_job: Job, checkpoint: Path, scans: list[Path], tmp_path: Path) -> None:
    """At twice the resolution, with flips; each file on the same finer grid."""
    output = tmp_path / "out"
    options = ("--spacing", "1.5", "--flips", "R", "--probabilities", "--uncertainty", "--mesh", "stl")
    done = run_job("predict", "--checkpoint", checkpoint, "--input", scans[0], "--output", output, *options)
    assert done.returncode == 0, done.stderr
    volumes = [nibabel.load(path) for path in results(output) if path.name.endswith(".nii.gz")]
    assert len(volumes) == 5
    for volume in volumes:
        np.testing.assert_allclose(volume.header.get_zooms(), 1.5, rtol=0.1)
        assert volume.shape == volumes[0].shape
        assert np.array_equal(volume.affine, volumes[0].affine)


@pytest.mark.parametrize(
    ("changed", "message"),
    [("--spacing", "one size in mm above 0"), ("--smoothing", "0 rounds or more")],
)
def test_values_that_make_no_sense(
    run_job: Job, changed: str, message: str, checkpoint: Path, tmp_path: Path
) -> None:
    done = run_job("predict", "--checkpoint", checkpoint, "--output", tmp_path / "out", changed, "-1")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert message in done.stderr


@pytest.mark.slow
def test_many_workers_and_one_bad_scan(
    run_job: Job, checkpoint: Path, scans: list[Path], tmp_path: Path
) -> None:
    """As one process does it, in any order; then nothing is left to do."""
    (tmp_path / "cut.nii.gz").write_bytes(scans[0].read_bytes()[:5000])
    inputs, output = [tmp_path / "cut.nii.gz", *scans[:4]], tmp_path / "out"
    options = ("--checkpoint", checkpoint, "--json", "--input", *inputs)
    done = run_alone("predict", *options, "--output", output, "--workers", "2")
    assert done.returncode == 2
    lines = [each for each in done.stderr.strip().splitlines() if not each.endswith(" now")]  # progress
    assert len(lines) == 1, done.stderr
    (line,) = lines
    assert "cut.nii.gz" in line
    assert "truncated" in line
    assert len(results(output)) == 4
    alone = Predictor.from_checkpoint(checkpoint)
    for path, scan in zip(results(output), scans, strict=False):
        assert np.array_equal(np.asarray(nibabel.load(path).dataobj), alone(scan).labels)
    again = run_job("predict", *options, "--output", output)
    assert [case["cached"] for case in cases_of(again).values()] == [True] * 4 + [False]


def predict_and_kill(most: int, *options: object) -> tuple[subprocess.CompletedProcess[str], int]:
    """The job with two workers, of which so many are killed in the middle of a scan; and how many were."""
    killed = 0
    with job_at_work("predict", *options, "--workers", "2") as driver:
        while driver.poll() is None:
            killed += len(kill(busy(driver.pid, "_Worker)).submit")[: most - killed]))
            time.sleep(0.02)
        printed, errors = driver.communicate()
    return subprocess.CompletedProcess(["predict"], driver.returncode, printed, errors), killed


@pytest.mark.slow
def test_killed_workers_cost_no_scan_but_one_that_kills_each(
    checkpoint: Path, scans: list[Path], tmp_path: Path
) -> None:
    """One is killed once, at a scan that is then tried again; then whoever tries a large scan."""
    (whole,) = (write_phantom(tmp_path / "large", cases=1, shape=(96, 96, 96)) / "imagesTr").iterdir()
    large, output = whole.rename(tmp_path / "large.nii.gz"), tmp_path / "out"
    options = ("--checkpoint", checkpoint, "--output", output, "--json", "--input", *scans)
    done, killed = predict_and_kill(1, *options)
    assert killed == 1
    assert done.returncode == 0, done.stderr
    assert len(cases_of(done)) == len(scans)
    done, killed = predict_and_kill(9, *options, large)
    assert killed == 2
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith(f"error: {large}: the process that predicts it was killed 2 times")
    assert {case for case, outcome in cases_of(done).items() if not outcome["cached"]} == {"large"}
    again = run_alone("predict", *options, large)
    assert again.returncode == 0, again.stderr
    assert {case for case, outcome in cases_of(again).items() if not outcome["cached"]} == {"large"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("--checkpoint", "no checkpoint"),
        ("--input", "no such file"),
        ("--nonsense", "expected a known option"),
    ],
)
def test_what_predict_rejects(
    run_job: Job, changed: str, message: str, checkpoint: Path, scans: list[Path], tmp_path: Path
) -> None:
    options = {"--checkpoint": checkpoint, "--input": scans[0], "--output": tmp_path / "out"}
    options[changed] = tmp_path / "gone"
    done = run_job("predict", *(part for option in options.items() for part in option))
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def predict_brats(run_job: Job, name: str, source: Path, folder: Path) -> None:
    """Predict a BraTS folder of one case with an untrained network and check where the result lies."""
    sampling = SamplingConfig(working_shape=(256, 256, 160))
    config = small(Config(model=network_config(name, in_channels=4, classes=3), sampling=sampling))
    checkpoint = save(folder / "checkpoint", config, BRATS)
    done = run_job(
        "predict", "--checkpoint", checkpoint, "--input", source, "--output", folder / "out", "--json"
    )
    assert done.returncode == 0, done.stderr
    (case,) = json.loads(done.stdout.strip().splitlines()[-1])["cases"]
    (scan,) = source.glob("*/*_flair.nii.gz")
    assert Path(case["output"]).name == f"{scan.parent.name}_seg.nii.gz"
    same_grid(Path(case["output"]), scan, {0, 1, 2, 4})


@pytest.fixture
def brats(shared: Path) -> Path:
    folder = shared / "data" / "brats2021"
    if not folder.is_dir():
        pytest.skip("no BraTS case")
    return folder


def test_real_brats_folder(run_job: Job, brats: Path, tmp_path: Path) -> None:
    """A block of each modality, at its place in the head and with its header."""
    for path in brats.glob("*/*.nii.gz"):
        block = nibabel.load(path).slicer[90:130, 100:132, 60:84]
        (tmp_path / "source" / path.parent.name).mkdir(parents=True, exist_ok=True)
        nibabel.save(block, tmp_path / "source" / path.parent.name / path.name)
    predict_brats(run_job, "oss-net-b", tmp_path / "source", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet-3d", "oss-net-b"])
def test_real_brats_case_at_full_resolution(run_job: Job, name: str, brats: Path, tmp_path: Path) -> None:
    predict_brats(run_job, name, brats, tmp_path)


def test_evaluate(run_job: Job, checkpoint: Path, phantom_store: Path, tmp_path: Path) -> None:
    options = ("--checkpoint", checkpoint, "--data", phantom_store, "--output", tmp_path / "out")
    done = run_alone("evaluate", *options, "--json")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.strip().splitlines()[-1])
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["split"], summary["cases"]) == ("validation", 2)
    assert len(list((tmp_path / "out" / "overlays").glob("*.png"))) == 2
    done = run_job("evaluate", *options, "--split", "all")
    assert done.returncode == 0, done.stderr
    assert "10 (all)" in done.stdout
    assert f"ossnet predict --checkpoint {checkpoint}" in done.stdout


def test_what_evaluate_rejects(run_job: Job, checkpoint: Path, phantom_store: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    common = ("--output", tmp_path / "out", "--checkpoint", checkpoint)
    for options, message in (
        (("--data", tmp_path / "empty"), "manifest"),
        (("--data", phantom_store, "--split", "test"), "cases in the test split, found none"),
    ):
        done = run_job("evaluate", *common, *options)
        assert done.returncode == 2
        assert len(done.stderr.strip().splitlines()) == 1
        assert message in done.stderr
    assert not (tmp_path / "out").exists()
