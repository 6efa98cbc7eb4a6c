import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ossnet.data.imaging.normalization import (
    CT_WINDOW,
    default_normalization,
    foreground,
    intensity,
    normalize,
)

VOLUMES = arrays(np.float32, (4, 3, 5), elements=st.floats(-2000, 2000, width=32))


@given(VOLUMES)
def test_zscore_is_that_of_the_whole_volume_with_unbiased_deviation(volume):
    result = volume.copy()
    normalize(result, "zscore")
    deviation = volume.astype(float).std(ddof=1)
    if deviation > 1e-3:
        np.testing.assert_allclose(
            result, (volume - volume.mean(dtype=float)) / deviation, rtol=1e-3, atol=1e-3
        )


def test_foreground_zscore_leaves_the_background_at_zero():
    volume = np.zeros((6, 6, 6), np.float32)
    inside = np.random.default_rng(0).uniform(100, 900, (4, 4, 4)).astype(np.float32)
    volume[1:5, 1:5, 1:5] = inside
    normalize(volume, "zscore-foreground")
    result = volume[1:5, 1:5, 1:5]
    assert result.mean() == pytest.approx(0, abs=1e-5)
    assert result.std(ddof=1) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(result, (inside - inside.mean()) / inside.std(ddof=1), rtol=1e-4, atol=1e-5)
    volume[1:5, 1:5, 1:5] = 0
    assert not volume.any()


def test_ct_does_not_see_beyond_its_window():
    rng = np.random.default_rng(0)
    volume = rng.uniform(-150, 250, (5, 5, 5)).astype(np.float32)
    extreme = volume.copy()
    volume[0, 0, :2] = CT_WINDOW
    extreme[0, 0, :2] = (-3024, 30000)
    normalize(volume, "ct")
    normalize(extreme, "ct")
    np.testing.assert_array_equal(volume, extreme)
    assert volume.std(ddof=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("kind", ["zscore", "zscore-foreground", "ct"])
@pytest.mark.parametrize("value", [0, 7])
def test_a_constant_volume_becomes_zero(kind, value):
    volume = np.full((3, 3, 3), value, np.float32)
    normalize(volume, kind)
    assert not volume.any()


def test_sums_are_exact_where_float32_would_not_be():
    volume = np.full((64, 64, 64), 1e6, np.float32)
    volume[::2] += 1
    result = intensity(volume)
    assert result.mean == pytest.approx(1e6 + 0.5, abs=1e-6)
    assert result.std == pytest.approx(0.5, rel=1e-5)
    assert (result.minimum, result.maximum) == (1e6, 1e6 + 1)


def test_intensity_of_nothing_is_zero():
    result = intensity(np.zeros((2, 2, 2), np.float32))
    assert (result.mean, result.std, result.minimum, result.maximum) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("modality", "kind"),
    [
        ("CT", "ct"),
        ("cbct", "ct"),
        ("noNorm", "none"),
        ("NoNorm", "none"),
        ("MRI", "zscore-foreground"),
        ("PET", "zscore-foreground"),
    ],
)
def test_the_default_follows_the_modality(modality, kind):
    assert default_normalization(modality) == kind


@given(VOLUMES, st.booleans())
def test_percentiles_are_values_that_occur(volume, foreground_intensities):
    label = (np.arange(volume.size).reshape(volume.shape) % 3 == 0).astype(np.uint8)
    voxels = volume[label > 0] if foreground_intensities else volume[volume != 0]
    result = intensity(volume, label) if foreground_intensities else intensity(volume)
    if voxels.size:
        expected = np.quantile(voxels, [0.005, 0.5, 0.995], method="lower")
        assert [result.percentile_0_5, result.median, result.percentile_99_5] == expected.tolist()
        assert result.mean == pytest.approx(voxels.mean(dtype=float), rel=1e-6, abs=1e-6)
        assert (result.minimum, result.maximum) == (voxels.min(), voxels.max())
    else:
        assert result == intensity(np.zeros((2, 2, 2), np.float32))


def test_percentiles_pass_over_few_extremes():
    volume = np.random.default_rng(0).normal(100, 10, (60, 60, 60)).astype(np.float32)
    volume[0, 0, :3] = 1e6, -1e6, 5e5
    result = intensity(volume)
    assert result.maximum == 1e6
    np.testing.assert_allclose(
        [result.percentile_0_5, result.median, result.percentile_99_5], [74.2, 100, 125.8], atol=1
    )


def test_the_foreground_of_ct_is_what_its_window_shows():
    volume = np.array([[[-1000, -200, -150, 0, 300, 900]]], np.float32)
    assert foreground(volume, "ct").ravel().tolist() == [False, False, True, True, True, True]
    assert foreground(volume, "zscore").ravel().tolist() == [True, True, True, False, True, True]
