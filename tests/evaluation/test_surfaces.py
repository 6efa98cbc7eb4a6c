"""HD95, NSD and Dice against distance transforms, on random and degenerate pairs."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ossnet.data.labels.scheme import ClassScheme
from ossnet.evaluation import dice_iou
from ossnet.evaluation.surfaces import SurfaceMetrics, surface_measures

SHAPE = (9, 7, 11)


def blob(seed: int, share: float) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 1.2)
    return noise > np.quantile(noise, 1 - share)


def surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)


def by_distance_transforms(
    prediction: np.ndarray, label: np.ndarray, spacing: tuple[float, float, float], tolerance: float
) -> tuple[float, float, float]:
    """HD95, NSD, Dice."""
    if not prediction.any() and not label.any():
        return 0.0, 1.0, 1.0
    if not (prediction.any() and label.any()):
        return math.sqrt(sum((s * n) ** 2 for s, n in zip(spacing, SHAPE, strict=True))), 0.0, 0.0
    one, other = surface(prediction), surface(label)
    there = ndimage.distance_transform_edt(~other, spacing)[one]
    back = ndimage.distance_transform_edt(~one, spacing)[other]
    near = np.count_nonzero(there <= tolerance) + np.count_nonzero(back <= tolerance)
    dice = 2 * np.count_nonzero(prediction & label) / (prediction.sum() + label.sum())
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    return float(hd95), near / (len(there) + len(back)), float(dice)


@settings(max_examples=60)
@example(0, 0, 0.0, 0.3, (1.0, 1.0, 1.0))
@example(0, 0, 0.3, 0.0, (1.0, 2.0, 3.0))
@example(0, 0, 0.0, 0.0, (1.0, 1.0, 1.0))
@example(0, 0, 1.0, 1.0, (0.5, 1.0, 1.0))
@example(0, 0, 1.0, 0.002, (0.5, 1.0, 2.0))
@example(3, 4, 0.002, 0.002, (0.5, 1.0, 2.0))
@given(
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
    st.tuples(*[st.sampled_from([0.5, 1.0, 1.25, 3.0])] * 3),
)
def test_agree_with_distance_transforms(
    first: int, second: int, share: float, other: float, spacing: tuple[float, float, float]
) -> None:
    prediction, label = blob(first, share), blob(second, other)
    found = surface_measures(prediction, label, spacing, tolerance_mm=1.0)
    hd95, nsd, dice = by_distance_transforms(prediction, label, spacing, 1.0)
    assert found.hd95_mm == pytest.approx(hd95, rel=1e-5)
    assert found.nsd == pytest.approx(nsd, abs=1e-6)
    masks = (torch.from_numpy(mask.astype(np.uint8)) for mask in (prediction, label))
    assert dice_iou(*masks, ClassScheme(1))[0].dice == pytest.approx(dice)


def test_a_shift_is_measured_in_mm() -> None:
    label = np.zeros((20, 12, 12), bool)
    label[4:10, 3:9, 3:9] = True
    moved = np.roll(label, 3, axis=0)
    assert surface_measures(moved, label, (2, 1, 1), tolerance_mm=1).hd95_mm == pytest.approx(6)
    assert surface_measures(label, label, (2, 1, 1), tolerance_mm=1) == SurfaceMetrics(0.0, 1.0)
    with pytest.raises(ValueError, match="one shape"):
        surface_measures(moved[1:], label, (1, 1, 1), tolerance_mm=1)
