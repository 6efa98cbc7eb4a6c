"""Lesions one by one, volumes, the paper's sampled points, and how certain a difference is."""

from typing import Literal

import numpy as np
import pytest

from ossnet.evaluation.comparison import compare
from ossnet.evaluation.mask_metrics import LesionDetection, detect, score_mask
from ossnet.evaluation.paper_protocol import SampledOverlap, sampled_overlap


def boxes(*corners: tuple[int, int, int], edge: int = 3) -> np.ndarray:
    mask = np.zeros((30, 30, 30), bool)
    for x, y, z in corners:
        mask[x : x + edge, y : y + edge, z : z + edge] = True
    return mask


def test_lesions_detected_missed_and_false_positives() -> None:
    label = boxes((1, 1, 1), (10, 10, 10), (20, 20, 20))
    prediction = boxes((3, 3, 3), (10, 10, 11), (1, 20, 1), (4, 26, 4))
    found = detect(prediction, label)
    assert found == LesionDetection(lesions=3, detected=2, false_positives=2)
    assert found.sensitivity == pytest.approx(2 / 3)
    assert detect(label & False, label) == LesionDetection(3, 0, 0)
    assert detect(label, label & False) == LesionDetection(0, 0, 3)
    assert detect(label & False, label & False).sensitivity == 1.0


def test_components_connect_over_corners() -> None:
    assert detect(boxes((0, 0, 0)), boxes((0, 0, 0), (3, 3, 3))) == LesionDetection(1, 1, 0)


def test_volume_error_in_ml() -> None:
    found = score_mask(boxes((1, 1, 1)), boxes((1, 1, 1), (9, 9, 9)), (2.0, 2.0, 5.0), tolerance_mm=1)
    assert found.volume_error_ml == pytest.approx(-27 * 20 / 1000)
    assert found.values()["sensitivity"] == 0.5


def test_sampled_points_of_the_paper() -> None:
    """A mask widened by two voxels scores lower where points lie near the border."""
    places = np.linalg.norm(np.indices((64, 64, 64)) - np.full((3, 1, 1, 1), 31), axis=0)
    label, prediction = places < 16, places < 18
    true = 2 * label.sum() / (label.sum() + prediction.sum())
    brats = [sampled_overlap(prediction, label, protocol="brats", seed=seed) for seed in range(8)]
    lits = [sampled_overlap(prediction, label, protocol="lits", seed=seed) for seed in range(8)]
    assert np.mean([each.dice for each in brats]) == pytest.approx(true, abs=0.003)
    assert brats[0].iou == pytest.approx(brats[0].dice / (2 - brats[0].dice), abs=1e-6)
    assert np.mean([each.dice for each in lits]) < true - 0.003


@pytest.mark.parametrize("protocol", ["brats", "lits"])
def test_nothing_scores_zero_by_the_papers_protocol(protocol: Literal["brats", "lits"]) -> None:
    empty = np.zeros((8, 8, 8), bool)
    assert sampled_overlap(empty, empty, protocol=protocol) == SampledOverlap(0.0, 0.0)
    assert sampled_overlap(~empty, ~empty, protocol=protocol).dice == pytest.approx(1)


def test_paired_comparison_sees_a_small_steady_gain() -> None:
    random = np.random.default_rng(0)
    hard = random.uniform(0, 1, 30)
    found = compare((hard + 0.02 + random.normal(0, 0.005, 30)).tolist(), hard.tolist())
    assert (found.cases, found.better) == (30, 30)
    assert 0.01 < found.interval.low < found.mean < found.interval.high < 0.03
    assert found.p_value < 1e-4
    same = compare([0.5, 0.6], [0.5, 0.6])
    assert (same.cases, same.mean, same.better, same.worse, same.p_value) == (2, 0.0, 0, 0, 1.0)
    with pytest.raises(ValueError, match="longer"):
        compare([1.0], [1.0, 2.0])
