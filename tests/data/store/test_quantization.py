import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ossnet.data.store.quantization import MAX_ERROR, encode

VOLUMES = arrays(np.float32, (3, 4, 5), elements=st.floats(-100, 1000, width=32))


@given(VOLUMES)
def test_whole_numbers_err_by_half_a_step_and_keep_zero(volume):
    volume[0, 0, 0] = 0
    stored = np.empty(volume.shape, np.int16)
    scale, error = encode(volume, stored)
    again = scale.decode(stored)
    assert again.dtype == np.float32
    assert again[0, 0, 0] == 0
    assert error == np.abs(again - volume).max()
    rounding = np.spacing(np.abs(volume).max())
    assert error <= 0.501 * max(np.ptp(volume) / 65533, 1e-30) + 1e-6 + rounding
    np.testing.assert_array_equal(scale.decode(stored[1, :2]), again[1, :2])  # any selection


@given(VOLUMES)
def test_half_floats_err_by_what_they_round(volume):
    stored = np.empty(volume.shape, np.float16)
    scale, error = encode(volume, stored)
    assert scale is None
    assert error == np.abs(stored.astype(np.float32) - volume).max()
    assert error <= 2**-11 * max(np.abs(volume).max(), 2**-13)


def test_what_half_floats_cannot_hold_is_an_infinite_error():
    volume = np.zeros((2, 2, 2), np.float32)
    volume[0, 0, 0] = 1e5
    assert encode(volume, np.empty((2, 2, 2), np.float16))[1] == np.inf
    assert encode(volume, np.empty((2, 2, 2), np.int16))[1] < 1


def test_half_floats_are_fine_up_to_64_deviations():
    volume = np.linspace(-63.9, 63.9, 6**3, dtype=np.float32).reshape(6, 6, 6)
    assert encode(volume, np.empty(volume.shape, np.float16))[1] <= MAX_ERROR


@pytest.mark.parametrize("value", [0.0, 7.0])
def test_a_constant_channel_is_exact(value):
    volume = np.full((2, 3, 4), value, np.float32)
    stored = np.empty(volume.shape, np.int16)
    scale, error = encode(volume, stored)
    np.testing.assert_allclose(scale.decode(stored), volume, rtol=1e-6)
    assert error <= 1e-5
