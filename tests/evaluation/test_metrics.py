"""Overlap metrics against sets, and the policy for empty classes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ossnet.data.labels.scheme import ClassScheme
from ossnet.evaluation import OverlapMetrics, dice_iou

VOLUMES = arrays(np.uint8, (4, 3, 5), elements=st.integers(0, 3))


@given(VOLUMES, VOLUMES)
def test_against_sets_of_voxels(prediction: np.ndarray, label: np.ndarray) -> None:
    overlaps = dice_iou(torch.from_numpy(prediction), torch.from_numpy(label), ClassScheme(3))
    for index, overlap in enumerate(overlaps, start=1):
        found = set(map(tuple, np.argwhere(prediction == index)))
        expected = set(map(tuple, np.argwhere(label == index)))
        assert (overlap.label_voxels, overlap.predicted_voxels) == (len(expected), len(found))
        if found or expected:
            assert overlap.dice == pytest.approx(2 * len(found & expected) / (len(found) + len(expected)))
            assert overlap.iou == pytest.approx(len(found & expected) / len(found | expected))
            assert overlap.dice == pytest.approx(2 * overlap.iou / (1 + overlap.iou))
        else:
            assert overlap == OverlapMetrics(1.0, 1.0, 0, 0)


CODES = arrays(np.uint8, (4, 3, 5), elements=st.integers(0, 7))


@given(CODES, CODES)
def test_each_region_is_scored_by_itself(prediction: np.ndarray, label: np.ndarray) -> None:
    """As a class of its own, whatever the other regions are."""
    found = dice_iou(torch.from_numpy(prediction), torch.from_numpy(label), ClassScheme(3, overlapping=True))
    for bit, overlap in enumerate(found):
        masks = (torch.from_numpy((codes >> bit) & 1) for codes in (prediction, label))
        assert (overlap,) == dice_iou(*masks, ClassScheme(1))


@given(VOLUMES)
def test_perfect_and_swapped(label: np.ndarray) -> None:
    volume = torch.from_numpy(label)
    assert all(overlap.dice == overlap.iou == 1.0 for overlap in dice_iou(volume, volume, ClassScheme(3)))
    empty = torch.zeros_like(volume)
    both = (dice_iou(empty, volume, ClassScheme(3)), dice_iou(volume, empty, ClassScheme(3)))
    for missed, false_positive in zip(*both, strict=True):
        assert missed.dice == false_positive.dice
        assert missed.dice == (0.0 if missed.label_voxels else 1.0)


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="one shape"):
        dice_iou(
            torch.zeros(2, 2, 2, dtype=torch.uint8), torch.zeros(2, 2, 3, dtype=torch.uint8), ClassScheme(1)
        )
    for prediction, label in ((2, 0), (0, 2), (2, 2)):
        with pytest.raises(ValueError, match="from 0 to 1"):
            dice_iou(
                torch.full((2, 2, 2), prediction, dtype=torch.uint8),
                torch.full((2, 2, 2), label, dtype=torch.uint8),
                ClassScheme(1),
            )
    with pytest.raises(ValueError, match="from 0 to 3, found 4"):
        dice_iou(*torch.full((2, 2, 2, 2), 4, dtype=torch.uint8), ClassScheme(2, overlapping=True))
