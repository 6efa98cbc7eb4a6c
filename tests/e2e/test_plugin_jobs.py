"""The jobs with the example package of tests/plugin_example installed, and with a broken one next to it."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import nibabel
import pytest

from ossnet.data import write_phantom
from ossnet.training.checkpoint import check_checkpoint

Job = Callable[..., CompletedProcess[str]]

SPACE = """
def space(trial):
    return {"model": "plain-stack", "model.width": trial.suggest_categorical("width", [2, 4])}
"""
BROKEN = "package broken 1.0, entry point worse of ossnet.networks: expected no_such_module:X to load"


EXTRA = ("--loss.extra", "tversky", "--augmentation.extra", "invert")


def check_trained(checkpoint: Path) -> None:
    check_checkpoint(checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    assert config["model"]["kind"] == config["model"]["name"] == "plain-stack"
    assert config["model"]["width"] in {2, 4}
    assert config["loss"]["extra"] == ["tversky"]
    assert config["augmentation"]["extra"] == ["invert"]


@pytest.fixture
def packages(plugin_example: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Folders with the example and with a package that fails to import."""
    broken = tmp_path_factory.mktemp("broken")
    folder = broken / "broken-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[ossnet.networks]\nworse = no_such_module:X\n")
    return [plugin_example, broken]


@pytest.fixture
def installed(packages: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are on the path of jobs that run as processes, and of their Ray workers."""
    paths = [*map(str, packages), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


@pytest.fixture
def installed_here(plugins_forgotten: None, packages: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are on the path of this process."""
    for folder in packages:
        monkeypatch.syspath_prepend(folder)


@pytest.mark.usefixtures("installed")
@pytest.mark.slow  # its workers load the package as those of a search do
def test_a_network_of_a_package_is_trained(
    run_process: Job, phantom_store: Path, tiny_training: list[str]
) -> None:
    options = ["--data", phantom_store, "--model", "plain-stack", "--output", "run", *tiny_training]
    done = run_process("train", *options, "--model.width", 4, *EXTRA, "--epochs", 2, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(BROKEN) >= 1  # once in each process that loads them
    check_trained(Path(json.loads(done.stdout.splitlines()[-1])["checkpoint"]))


@pytest.mark.usefixtures("installed_here")
def test_a_network_of_a_package_is_planned(run_job: Job) -> None:
    shape = ("--sampling.working-shape", 16, 16, 16)
    done = run_job("plan", "--model", "plain-stack", *shape, "--model.width", 4, "--measure", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(BROKEN) == 1
    (planned,) = json.loads(done.stdout.splitlines()[-1])["estimates"]
    assert planned["name"] == "plain-stack"
    assert planned["training"]["allocated"] == pytest.approx(planned["measured"]["allocated"], rel=0.02)


@pytest.mark.slow
@pytest.mark.usefixtures("installed", "installed_here", "mlflow_store")
def test_a_network_of_a_package_is_searched_and_predicts(
    run_process: Job, run_job: Job, phantom_store: Path, tiny_training: list[str], tmp_path: Path
) -> None:
    (tmp_path / "widths.py").write_text(SPACE)
    options = ["--data", phantom_store, "--space", "widths.py", "--trials", 1, "--output", "study"]
    done = run_process("tune", *options, *tiny_training, *EXTRA, "--training.epochs", 1, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(BROKEN) >= 1  # once in each process that loads them
    checkpoint = tmp_path / "study" / "checkpoint"
    check_trained(checkpoint)
    write_phantom(tmp_path / "scans", cases=1, shape=(28, 26, 22))
    (image,) = (tmp_path / "scans" / "imagesTr").glob("*.nii.gz")
    done = run_job("predict", "--checkpoint", checkpoint, "--input", image, "--output", "predicted")
    assert done.returncode == 0, done.stderr
    (labels,) = (tmp_path / "predicted").rglob("*.nii.gz")
    assert nibabel.load(labels).shape == (28, 26, 22)


@pytest.mark.usefixtures("installed_here")
def test_a_folder_in_the_layout_of_a_package_is_verified(run_job: Job, scans_and_masks: Path) -> None:
    done = run_job("verify", "--source", scans_and_masks, "--output", "verified", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["layout"] == "scan-and-mask"
    assert found["usable"] == ["phantom_000", "phantom_001"]
