"""Probabilities held against labels: the error, and the temperature that corrects it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ossnet.data import Store
from ossnet.data.labels.scheme import ClassScheme
from ossnet.errors import UserError
from ossnet.evaluation.calibration import (
    ReliabilityBins,
    aggregate,
    calibrate,
    fit_temperature,
    near_foreground,
    negative_log_likelihood,
    reliabilities,
)
from ossnet.evaluation.cases import score_case
from ossnet.evaluation.run import evaluate
from ossnet.inference import Predictor, predict_volume
from ossnet.inference.temperature import read_temperature


def test_probabilities_that_come_true_have_no_error() -> None:
    random = np.random.default_rng(0)
    chance = random.random(200_000)
    truth = random.random(200_000) < chance
    assert ReliabilityBins.of(chance, truth).error < 0.01
    assert ReliabilityBins.of(np.full(10, 0.7), np.arange(10) < 2).error == pytest.approx(0.5)
    assert ReliabilityBins.of(chance[:0], truth[:0]).error == 0


def test_error_by_hand_and_over_cases() -> None:
    """Two bins of two voxels each, of two cases."""
    one = ReliabilityBins.of(np.array([0.1, 0.9]), np.array([True, True]))
    two = ReliabilityBins.of(np.array([0.12, 1.0]), np.array([False, True]))
    together = aggregate([{"a": one}, {"a": two}])["a"]
    assert together.error == pytest.approx((abs(0.22 - 1) + abs(0.9 - 1) + abs(1.0 - 1)) / 4)
    assert together.voxels.sum() == 4


def test_near_is_five_voxels_around_either() -> None:
    label, prediction = np.zeros((2, 30, 9, 9), np.uint8)
    label[8, 4, 4] = 2
    prediction[20, 4, 4] = 1
    near = near_foreground(prediction, label)
    assert np.flatnonzero(near.any(axis=(1, 2))).tolist() == [*range(3, 14), *range(15, 26)]
    assert not near_foreground(prediction * 0).any()


@pytest.mark.parametrize("overlapping", [False, True])
def test_likelihood_of_classes_and_of_regions(overlapping: bool) -> None:
    logits, codes = torch.tensor([[0.0, 1.0, -2.0]]), torch.tensor([2], dtype=torch.uint8)
    probabilities = logits.sigmoid()[0] if overlapping else logits.softmax(1)[0]
    expected = probabilities[2].log()
    if overlapping:  # the second bit
        expected = (1 - probabilities[0]).log() + probabilities[1].log() + (1 - probabilities[2]).log()
    scheme = ClassScheme(3, overlapping=True) if overlapping else ClassScheme(2)
    assert negative_log_likelihood(logits, codes, scheme) == pytest.approx(-float(expected))


@pytest.mark.parametrize("factor", [0.25, 1.0, 2.0])
def test_a_network_made_too_certain_is_cooled_down(
    factor: float, store: Store, checkpoint: Path, tmp_path: Path
) -> None:
    """Logits times a factor need a temperature that much higher; no decision changes."""
    plain = Predictor.from_checkpoint(checkpoint)
    bent = Predictor.from_checkpoint(checkpoint)
    bent.network.decoder.output.weight.data *= factor
    cases = store.split("validation")[:1]
    one, other = fit_temperature(plain, store, cases), fit_temperature(bent, store, cases)
    assert other.nll_after == pytest.approx(one.nll_after, rel=1e-3)
    assert other.nll_after <= other.nll_before
    assert 0.3 < one.temperature < 8  # so that all lie within the range that is evaluated
    assert other.temperature == pytest.approx(one.temperature * factor, rel=0.02)
    stored = store.case(cases[0])
    image = torch.from_numpy(stored.image.astype(np.float32))
    cold, warm = (
        predict_volume(
            bent.network,
            image,
            sampling=bent.sampling,
            settings=bent.settings,
            with_probabilities=True,
            temperature=temperature,
        )
        for temperature in (1.0, other.temperature)
    )
    assert torch.equal(cold.classes, warm.classes)
    assert cold.probabilities is not None
    assert warm.probabilities is not None
    assert factor == 1.0 or not torch.allclose(cold.probabilities, warm.probabilities)


def test_the_temperature_is_stored_with_the_weights(store: Store, checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, folder)
    assert read_temperature(folder) == 1.0
    fitted = calibrate(Predictor.from_checkpoint(folder), store, fold=None, checkpoint=folder)
    again = Predictor.from_checkpoint(folder)
    assert again.temperature == fitted.temperature != 1.0
    stored = json.loads((folder / "temperature.json").read_text())
    assert stored["cases"] == 2
    assert stored["nll_after"] < stored["nll_before"]
    before, after = (
        evaluate(each, store, split="validation", output=tmp_path / str(place), calibrate=True).summary
        for place, each in enumerate((replace(again, temperature=1.0), again))
    )
    assert before["dice"] == after["dice"]
    errors = [np.mean([found["ece"] for found in each["classes"].values()]) for each in (before, after)]
    assert errors[1] < errors[0]
    assert after["temperature"] == fitted.temperature
    assert "ECE" in (tmp_path / "1" / "evaluation.html").read_text()


def test_each_half_is_evaluated_at_the_temperature_of_the_other(
    store: Store, checkpoint: Path, tmp_path: Path
) -> None:
    """An error measured on the cases that were fitted on would flatter; of two cases each is a half."""
    predictor, cases = Predictor.from_checkpoint(checkpoint), store.split("validation")
    fitted = fit_temperature(predictor, store, cases)
    first, second = (fit_temperature(predictor, store, [case]) for case in cases)
    assert first.in_sample
    assert not fitted.in_sample
    expected = dict(zip(cases, (second.temperature, first.temperature), strict=True))
    assert fitted.held_out == pytest.approx(expected)
    assert min(expected.values()) < fitted.temperature < max(expected.values())

    warm = replace(predictor, temperature=fitted.temperature)
    found = evaluate(warm, store, split="validation", output=tmp_path / "a", calibrate=True, fitted=fitted)
    parts = []
    for case, temperature in expected.items():
        _, prediction = score_case(warm, store, case, temperature=temperature)
        assert prediction.probabilities is not None
        label = store.task.codes(store.case(case).label)
        parts.append(reliabilities(prediction.probabilities, prediction.classes.numpy(), label, store.task))
    for name, each in aggregate(parts).items():
        assert found.summary["classes"][name]["ece"] == pytest.approx(each.error)
    assert found.figures[f"ece/{name}"].endswith(" (cross-fitted)")
    assert "at that fitted on the half of them without it" in found.page.read_text()


def test_a_single_case_is_reported_as_in_sample(store: Store, checkpoint: Path, tmp_path: Path) -> None:
    predictor = Predictor.from_checkpoint(checkpoint)
    protocols = {}
    for split in ("validation", "training"):
        fitted = fit_temperature(predictor, store, store.split(split)[:1])
        found = evaluate(
            predictor, store, split="validation", output=tmp_path / split, calibrate=True, fitted=fitted
        )
        protocols[split] = found.summary["ece_protocol"]
    assert protocols == {"validation": "in-sample", "training": "unseen"}
    assert "expect a larger one of others" in (tmp_path / "validation" / "evaluation.html").read_text()


@pytest.mark.parametrize("text", ["{", '{"temperature": 2}', '{"temperature": -1}'])
def test_a_damaged_temperature_is_reported(text: str, checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, folder)
    (folder / "temperature.json").write_text(text)
    with pytest.raises(UserError, match=r"temperature\.json: expected .*; fit it again"):
        Predictor.from_checkpoint(folder)


def test_no_foreground_to_fit_on(store: Store, checkpoint: Path) -> None:
    predictor = Predictor.from_checkpoint(checkpoint)
    other = replace(predictor.task, labels={"liver": 1})
    with pytest.raises(UserError, match="prepare it equally"):
        calibrate(replace(predictor, task=other), store, fold=None, checkpoint=checkpoint)
