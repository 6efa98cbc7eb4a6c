"""HD95 and NSD against their reference implementation, on random and degenerate pairs."""

import math
from pathlib import Path

import nibabel
import numpy as np
import pytest
import surface_distance
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import ndimage
from surface_distance import lookup_tables

from ossnet.data.labels.scheme import ClassScheme
from ossnet.evaluation import dice_iou
from ossnet.evaluation.surfaces import SurfaceMetrics, _areas, surface_measures

SHAPE = (9, 7, 11)
SPACINGS = [(1.0, 1.0, 1.0), (0.7, 0.7, 5.0), (0.41, 1.37, 2.93), (2.06, 1.1, 0.51), (1.98, 2.3, 1.81)]


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
        return math.hypot(*(s * n for s, n in zip(spacing, label.shape, strict=True))), 0.0
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
    st.tuples(*[st.floats(0.3, 5.0)] * 3),
)
def test_agree_with_the_reference(
    first: int, second: int, share: float, other: float, spacing: tuple[float, float, float]
) -> None:
    prediction, label = blob(first, share), blob(second, other)
    found = surface_measures(prediction, label, spacing, tolerance_mm=1.0)
    hd95, nsd = by_reference(prediction, label, spacing, 1.0)
    assert (found.hd95_mm, found.nsd) == (hd95, nsd)
    masks = (torch.from_numpy(mask.astype(np.uint8)) for mask in (prediction, label))
    either = prediction.sum() + label.sum()
    dice = 2 * np.count_nonzero(prediction & label) / either if either else 1.0
    assert dice_iou(*masks, ClassScheme(1))[0].dice == pytest.approx(dice)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_areas_of_all_neighborhoods(spacing: tuple[float, float, float]) -> None:
    expected = lookup_tables.create_table_neighbour_code_to_surface_area(spacing)
    assert np.count_nonzero(expected) == 254
    np.testing.assert_array_equal(_areas(spacing), expected)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_where_95_percent_are_met_exactly(spacing: tuple[float, float, float]) -> None:
    """Of 20 equal lesions one is moved: how the sums of areas are rounded decides."""
    label = np.zeros((60, 12, 9), bool)
    label[3:50:5, 2:8:5, 3] = True
    moved = label.copy()
    moved[3, 2, 3], moved[4, 3, 5] = False, True
    found = surface_measures(moved, label, spacing, tolerance_mm=1.0)
    assert (found.hd95_mm, found.nsd) == by_reference(moved, label, spacing, 1.0)


def test_a_tumor_moved_by_two_voxels(shared: Path) -> None:
    case = shared / "data/brats2021/BraTS2021_00006/BraTS2021_00006_seg.nii.gz"
    label = np.asarray(nibabel.load(case).dataobj) > 0
    found = surface_measures(np.roll(label, 2, axis=0), label, (1, 1, 1), tolerance_mm=1.0)
    assert found.nsd == pytest.approx(0.7711, abs=1e-4)  # the reference's; 0.564 where voxels are counted
    assert found.hd95_mm == 2.0


def test_a_shift_is_measured_in_mm() -> None:
    label = np.zeros((20, 12, 12), bool)
    label[4:10, 3:9, 3:9] = True
    moved = np.roll(label, 3, axis=0)
    assert surface_measures(moved, label, (2, 1, 1), tolerance_mm=1).hd95_mm == pytest.approx(6)
    assert surface_measures(label, label, (2, 1, 1), tolerance_mm=1) == SurfaceMetrics(0.0, 1.0)
    with pytest.raises(ValueError, match="one shape"):
        surface_measures(moved[1:], label, (1, 1, 1), tolerance_mm=1)
