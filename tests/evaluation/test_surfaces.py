"""HD95 and NSD against their reference implementation, on random and degenerate pairs."""

import math

import numpy as np
import pytest
import surface_distance
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


def by_reference(
    prediction: np.ndarray, label: np.ndarray, spacing: tuple[float, float, float], tolerance: float
) -> tuple[float, float]:
    """HD95 and NSD of DeepMind's `surface-distance`, with our policy for empty masks."""
    if not prediction.any() and not label.any():
        return 0.0, 1.0
    if not (prediction.any() and label.any()):
        return math.sqrt(sum((s * n) ** 2 for s, n in zip(spacing, label.shape, strict=True))), 0.0
    distances = surface_distance.compute_surface_distances(label, prediction, spacing)
    return (
        surface_distance.compute_robust_hausdorff(distances, 95),
        surface_distance.compute_surface_dice_at_tolerance(distances, tolerance),
    )


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
def test_agree_with_the_reference(
    first: int, second: int, share: float, other: float, spacing: tuple[float, float, float]
) -> None:
    prediction, label = blob(first, share), blob(second, other)
    found = surface_measures(prediction, label, spacing, tolerance_mm=1.0)
    hd95, nsd = by_reference(prediction, label, spacing, 1.0)
    assert found.hd95_mm == pytest.approx(hd95, abs=1e-4)
    assert found.nsd == pytest.approx(nsd, abs=1e-4)
    masks = (torch.from_numpy(mask.astype(np.uint8)) for mask in (prediction, label))
    either = prediction.sum() + label.sum()
    dice = 2 * np.count_nonzero(prediction & label) / either if either else 1.0
    assert dice_iou(*masks, ClassScheme(1))[0].dice == pytest.approx(dice)


def test_a_shift_is_measured_in_mm() -> None:
    label = np.zeros((20, 12, 12), bool)
    label[4:10, 3:9, 3:9] = True
    moved = np.roll(label, 3, axis=0)
    assert surface_measures(moved, label, (2, 1, 1), tolerance_mm=1).hd95_mm == pytest.approx(6)
    assert surface_measures(label, label, (2, 1, 1), tolerance_mm=1) == SurfaceMetrics(0.0, 1.0)
    with pytest.raises(ValueError, match="one shape"):
        surface_measures(moved[1:], label, (1, 1, 1), tolerance_mm=1)
