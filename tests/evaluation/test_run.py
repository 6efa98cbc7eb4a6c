"""A checkpoint evaluated on a store: the numbers, the files, and what is rejected."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ossnet.config import Config
from ossnet.data import Store
from ossnet.data.labels.presets import choose_regions
from ossnet.errors import UserError
from ossnet.evaluation import CaseScore, OverlapMetrics, score_cases, summarize
from ossnet.evaluation.figures import draw_overlay
from ossnet.evaluation.run import evaluate
from ossnet.inference import Predictor, predict_volume
from ossnet.models import network_from_config


def score(case: str, *dice: float) -> CaseScore:
    overlaps = {
        f"class{i}": OverlapMetrics(value, value / 2, 10, 10 * (value > 0)) for i, value in enumerate(dice)
    }
    return CaseScore(case, overlaps)


def test_summary_under_the_names_of_tracking() -> None:
    metrics = summarize([score("a", 1.0, 0.5), score("b", 0.0, 0.5)])
    assert metrics == {
        "dice/val": 0.5,
        "dice/val/class0": 0.5,
        "dice/val/class1": 0.5,
        "iou/val": 0.25,
        "iou/val/class0": 0.25,
        "iou/val/class1": 0.25,
    }
    with pytest.raises(ValueError, match="one case"):
        summarize([])


def test_scores_of_cases_are_those_of_full_volumes(store: Store, checkpoint: Path) -> None:
    predictor = Predictor.from_checkpoint(checkpoint)
    (found,) = score_cases(
        predictor.network,
        store.task,
        map(store.case, store.split("validation")[:1]),
        sampling=predictor.sampling,
        settings=predictor.settings,
    )
    stored = store.case(found.case)
    image = torch.from_numpy(stored.image.astype(np.float32))
    predicted = predict_volume(
        predictor.network, image, sampling=predictor.sampling, settings=predictor.settings
    ).classes.numpy()
    for index, (name, overlap) in enumerate(found.overlaps.items(), start=1):
        assert name == list(store.task.labels)[index - 1]
        assert overlap.label_voxels == np.count_nonzero(stored.label == index)
        shared = np.count_nonzero((stored.label == index) & (predicted == index))
        assert overlap.dice == pytest.approx(2 * shared / (overlap.label_voxels + overlap.predicted_voxels))


def test_evaluate_writes_cases_summary_and_overlays(store: Store, checkpoint: Path, tmp_path: Path) -> None:
    reported: list[str] = []
    evaluation = evaluate(
        Predictor.from_checkpoint(checkpoint),
        store,
        split="all",
        output=tmp_path / "out",
        progress=lambda score, done, of: reported.append(f"{score.case} {done}/{of}"),
    )
    rows = list(csv.DictReader(evaluation.cases.open()))
    assert [row["case"] for row in rows] == list(store.split("all"))
    assert reported[-1] == f"{rows[-1]['case']} 10/10"
    dice = [float(row["dice"]) for row in rows]
    assert evaluation.metrics["evaluation/all/dice"] == pytest.approx(np.mean(dice))
    assert {f"evaluation/all/{name}/edema" for name in ("dice", "hd95_mm", "nsd")} <= set(evaluation.metrics)
    table = evaluation.to_frame()
    assert (list(table.index), list(table["dice"])) == (list(store.split("all")), pytest.approx(dice))
    assert evaluation.summary == json.loads(evaluation.report.read_text())
    assert evaluation.summary["cases"] == 10
    assert evaluation.summary["dice"]["mean"] == pytest.approx(np.mean(dice))
    assert evaluation.summary["dice"]["median"] == pytest.approx(np.median(dice))
    for name in store.task.labels:
        mean = np.mean([float(row[f"dice/{name}"]) for row in rows])
        assert evaluation.summary["classes"][name]["dice"]["mean"] == pytest.approx(mean)
    best = rows[int(np.argmax(dice))]["case"]
    assert tmp_path / "out" / "overlays" / f"best_{best}.png" in evaluation.overlays
    assert len(evaluation.overlays) == 3
    written = {path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert written == {evaluation.cases, evaluation.report, evaluation.page, *evaluation.overlays}
    assert evaluation.page.read_text().count("<img ") == 3


def test_files_hold_surfaces_lesions_and_what_differs(store: Store, checkpoint: Path, tmp_path: Path) -> None:
    predictor = Predictor.from_checkpoint(checkpoint)
    torch.manual_seed(1)
    other = replace(predictor, network=network_from_config(predictor.network.config))
    evaluation = evaluate(predictor, store, split="validation", output=tmp_path, baseline=other)
    rows = list(csv.DictReader(evaluation.cases.open()))
    others = list(csv.DictReader((tmp_path / "cases_baseline.csv").open()))
    assert [row["case"] for row in rows] == [row["case"] for row in others]
    summary = evaluation.summary
    for name, found in summary["classes"].items():
        distances = [float(row[f"hd95_mm/{name}"]) for row in rows]
        assert found["hd95_mm"]["mean"] == pytest.approx(np.mean(distances))
        assert found["hd95_mm"]["mean_low"] <= found["hd95_mm"]["mean"] <= found["hd95_mm"]["mean_high"]
        assert found["lesions"] == sum(int(row[f"lesions/{name}"]) for row in rows)
    for measure in ("dice", "nsd", "hd95_mm"):
        columns = [f"{measure}/{name}" for name in summary["classes"]]
        differences = [
            np.mean([float(one[column]) - float(two[column]) for column in columns])
            for one, two in zip(rows, others, strict=True)
        ]
        found = summary["baseline"]["difference"][measure]
        assert found["cases"] == len(rows)
        assert found["mean"] == pytest.approx(np.mean(differences))
        assert found["interval"]["low"] <= found["mean"] <= found["interval"]["high"]
    assert " minus " in evaluation.page.read_text()
    assert set(summary["paper_protocol"]) == {"brats", "lits"}


def test_regions_are_scored_drawn_and_distinguished(store: Store, tmp_path: Path) -> None:
    regions = choose_regions("brats-regions", (), store.task.labels)
    chosen = Store(store.root, replace(store.manifest, task=replace(store.task, regions=regions)))
    config = Config.preset("unet-3d", chosen).replace({"model.channels": [2, 4]}).resolve_for(chosen)
    predictor = Predictor(network_from_config(config.model), chosen.task, config.sampling, config.inference)
    evaluation = evaluate(predictor, chosen, split="validation", output=tmp_path / "out")
    assert list(evaluation.summary["classes"]) == ["WT", "TC", "ET"]
    (row, *_) = csv.DictReader(evaluation.cases.open())
    label = store.case(row["case"]).label
    edema = 1 + list(store.task.labels).index("edema")
    assert int(row["label_voxels/WT"]) == np.count_nonzero(label)
    assert int(row["label_voxels/TC"]) == np.count_nonzero(label) - np.count_nonzero(label == edema)
    assert len(evaluation.overlays) == 2
    with pytest.raises(UserError, match=r"expected regions \{'WT'"):
        evaluate(predictor, store, split="validation", output=tmp_path / "other")
    task = replace(chosen.task, regions=dict(reversed(regions.items())))
    turned = Store(store.root, replace(store.manifest, task=task))
    with pytest.raises(UserError, match="class_names"):  # equal regions, but each has another's bit
        evaluate(predictor, turned, split="validation", output=tmp_path / "other")


def test_one_case_is_the_best_only(store: Store, checkpoint: Path, tmp_path: Path) -> None:
    splits = {**store.manifest.splits, "test": store.split("validation")[:1]}
    small = Store(store.root, replace(store.manifest, splits=splits), with_test=True)
    evaluation = evaluate(Predictor.from_checkpoint(checkpoint), small, split="test", output=tmp_path)
    assert [path.name for path in evaluation.overlays] == [f"best_{store.split('validation')[0]}.png"]


def test_another_task_and_an_empty_split_are_rejected(store: Store, checkpoint: Path, tmp_path: Path) -> None:
    predictor = Predictor.from_checkpoint(checkpoint)
    with pytest.raises(UserError, match="expected cases in the test split, found none"):
        evaluate(predictor, store, split="test", output=tmp_path / "out")
    other = replace(predictor, task=replace(predictor.task, labels={"liver": 1}))
    with pytest.raises(UserError, match="labels"):
        evaluate(other, store, split="validation", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_overlay_shows_what_differs(tmp_path: Path) -> None:
    """Red over the label's block in the middle column, green over the prediction's in the right one."""
    image = np.zeros((20, 20, 20), np.float32)
    label, prediction = np.zeros((2, 20, 20, 20), np.uint8)
    label[5:15, 5:15, 5:15] = 1
    prediction[5:15, 5:15, 5:15] = 2
    path = tmp_path / "figures" / "overlay.png"
    draw_overlay(
        path,
        image=image,
        label=label,
        prediction=prediction,
        spacing=(1, 1, 1),
        classes=("a", "b"),
        title="case",
    )
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    body = pixels[int(0.1 * len(pixels)) : int(0.93 * len(pixels))]  # without title and legend
    thirds = np.array_split(body, 3, axis=1)
    red = [np.count_nonzero(part[..., 0] - part[..., 2] > 60) for part in thirds]
    green = [np.count_nonzero(part[..., 1] - part[..., 0] > 40) for part in thirds]
    assert red[1] > 1000
    assert green[2] > 1000
    assert red[0] == red[2] == green[0] == green[1] == 0
    assert [each.name for each in path.parent.iterdir()] == ["overlay.png"]
