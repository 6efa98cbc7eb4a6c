"""Data of 117 classes, from files to validated Dice: a small set that is made here, and a real CT."""

import json
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from ossnet.config import Config
from ossnet.data import PrepareConfig, Store
from ossnet.data.prepare.build import finalize, make_case
from ossnet.data.prepare.plan import make_plan
from ossnet.data.store.case_file import write_case
from ossnet.training_run import run_training

CLASSES = 117
NAMES = {f"organ-{number}": number for number in range(1, CLASSES + 1)}
SMALL: dict[str, Any] = {
    "model.encoder_channels": [4, 8],
    "model.latent_grid": [2, 2, 2],
    "model.decoder_width": 32,
    "sampling.points": 1024,
    "sampling.foreground_fraction": 0.7,
    "training.batch_size": 2,
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 2e-2,
    "loss.dice_weight": 0.5,
}


class Losses:
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        self.values: list[float] = []

    def step(self, metrics: dict[str, float], step: int) -> None:
        self.values.append(metrics["loss/train"])

    def epoch(self, metrics: dict[str, float], checkpoint: Path | None) -> None: ...


def prepared(folder: Path, cases: dict[str, tuple[np.ndarray, np.ndarray]]) -> Store:
    """A store of images and labels of 3 mm, which are written in MSD's layout first."""
    source = folder / "source"
    for part in ("imagesTr", "labelsTr"):
        (source / part).mkdir(parents=True)
    for name, (image, label) in cases.items():
        for part, values in (("imagesTr", image.astype(np.int16)), ("labelsTr", label.astype(np.uint8))):
            nibabel.save(nibabel.Nifti1Image(values, np.diag([3, 3, 3, 1])), source / part / f"{name}.nii.gz")
    files = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in cases]
    labels = {"0": "background", **{str(value): name for name, value in NAMES.items()}}
    document = {"modality": {"0": "CT"}, "labels": labels, "training": files, "test": []}
    (source / "dataset.json").write_text(json.dumps(document))
    plan = make_plan(PrepareConfig(source, folder / "store", validation_fraction=0.34))
    for case in plan.cases:
        plan.path(case).parent.mkdir(parents=True, exist_ok=True)
        write_case(plan.path(case), make_case(case, plan.recipe))
    finalize(plan, {})
    return Store.open(plan.output)


def train(
    store: Store, name: str, epochs: int, changes: dict[str, Any]
) -> tuple[list[float], dict[str, float]]:
    config = Config.preset(name, store).replace({**SMALL, **changes, "training.epochs": epochs})
    losses = Losses()
    return losses.values, run_training(config, store, reporter=losses, device="cpu")


def test_117_classes_are_prepared_trained_and_validated(tmp_path: Path) -> None:
    random, shape = np.random.default_rng(0), (20, 18, 16)
    cells = np.indices(shape) // 4
    organs = (cells[0] * 20 + cells[1] * 4 + cells[2] + 18) % (CLASSES + 1)  # 100 cubes, the last one's among
    assert CLASSES in organs
    cases = {f"case{number}": (10 * organs + random.integers(-3, 4, shape), organs) for number in range(3)}
    store = prepared(tmp_path, cases)
    assert store.task.classes == CLASSES
    losses, metrics = train(store, "feature-query", 12, {})
    assert metrics["dice/val/organ-117"] >= 0
    assert sum(name.startswith("dice/val/") for name in metrics) == CLASSES
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["oss-net-c", "feature-query"])
def test_the_organs_of_a_real_ct_are_learned(name: str, shared: Path, tmp_path: Path) -> None:
    image, organs = (
        np.asarray(nibabel.load(shared / "data" / "ct_liver" / f"{file}.nii.gz").dataobj)  # type: ignore[attr-defined]
        for file in ("ct", "organs")
    )
    cases = {"a": (image, organs), "b": (image[::-1], organs[::-1]), "c": (image[:, ::-1], organs[:, ::-1])}
    store = prepared(tmp_path, cases)
    losses, metrics = train(store, name, 20, {"optimizer.learning_rate": 5e-3, "sampling.points": 4096})
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    present = [f"dice/val/organ-{number}" for number in np.unique(organs) if number]
    assert len(present) > 20
    assert all(0 <= metrics[each] <= 1 for each in present)
