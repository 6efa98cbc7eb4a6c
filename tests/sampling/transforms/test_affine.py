"""Turning and scaling: exact where voxels meet voxels, in mm where they do not, image and label together."""

from typing import Any

import numpy as np
import pytest

from ossnet.sampling.transforms import affine
from ossnet.sampling.transforms.planes import as_tensor


def warp(
    image: np.ndarray, label: np.ndarray, spacing: tuple[float, float, float], **change: Any
) -> tuple[np.ndarray, np.ndarray]:
    turned, labels = affine.warp(as_tensor(image), as_tensor(label), spacing, **change)
    return turned.numpy(), labels.numpy()


def volume(shape: tuple[int, int, int], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    label = np.random.default_rng(seed).integers(0, 5, shape).astype(np.uint8)
    return label[None].astype(np.float16), label


def test_nothing_requested_is_nothing_done() -> None:
    image, label = volume((9, 8, 7))
    turned, labels = warp(image, label, (1, 2, 3), degrees=(0, 0, 0), scale=1.0)
    np.testing.assert_allclose(turned, image, atol=1e-2)
    np.testing.assert_array_equal(labels, label)


@pytest.mark.parametrize(("axis", "planes"), [(0, (1, 2)), (1, (2, 0)), (2, (0, 1))])
def test_a_quarter_turn_is_that_of_numpy(axis: int, planes: tuple[int, int]) -> None:
    image, label = volume((9, 9, 9))
    degrees = [90.0 if each == axis else 0.0 for each in range(3)]
    turned, labels = warp(image, label, (1, 1, 1), degrees=degrees, scale=1.0)
    np.testing.assert_array_equal(labels, np.rot90(label, 1, planes))
    np.testing.assert_allclose(turned[0], labels, atol=1e-2)  # moved together


def test_a_turn_is_one_of_the_patient_not_of_the_voxels() -> None:
    """A rod of 12 mm along x with voxels of 1 mm lies along y after a quarter turn, in 6 voxels of 2 mm."""
    label = np.zeros((21, 21, 3), np.uint8)
    label[4:17, 10, 1] = 1
    _, labels = warp(label[None].astype(np.float16), label, (1, 2, 1), degrees=(0, 0, 90), scale=1.0)
    found = np.argwhere(labels)
    assert set(found[:, 0]) <= {9, 10, 11}
    assert sorted(set(found[:, 1])) == list(range(7, 14))


def test_scaling_enlarges_and_the_image_continues_beyond_its_walls() -> None:
    label = np.zeros((21, 21, 21), np.uint8)
    label[8:13, 8:13, 8:13] = 1
    image = np.ones((1, 21, 21, 21), np.float16)
    larger, labels = warp(image, label, (1, 1, 1), degrees=(0, 0, 0), scale=2.0)
    assert labels.sum() == 11**3  # ends fall on the middle between voxels
    np.testing.assert_allclose(larger, 1)
    smaller, labels = warp(image, label, (1, 1, 1), degrees=(0, 0, 0), scale=0.5)
    assert labels.sum() == 3**3
    np.testing.assert_allclose(smaller, 1)


def test_a_single_slice_can_be_turned() -> None:
    image, label = volume((8, 8, 1))
    turned, labels = warp(image, label, (1, 1, 5), degrees=(0, 0, 180), scale=1.0)
    np.testing.assert_array_equal(labels, label[::-1, ::-1])
    np.testing.assert_allclose(turned[0], labels, atol=1e-2)
