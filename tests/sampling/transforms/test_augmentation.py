"""Augmentation: image and label move together, strengths are kept, the inputs stay, switches switch."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from ossnet.sampling import AugmentationConfig
from ossnet.sampling.transforms.augmentation import Augmenter
from ossnet.sampling.transforms.planes import as_tensor

SPACING = (1.0, 1.0, 1.0)
NONE: dict[str, Any] = {"probability": 1.0, "flip": False, "brightness": 0, "noise": 0}


def case() -> tuple[np.ndarray, np.ndarray]:
    label = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    return np.stack([label, 200 - label]).astype(np.float16), label


class Seen(NamedTuple):
    """A case as a step sees it, mirrored."""

    image: np.ndarray
    label: np.ndarray
    mirrored: tuple[int, ...]
    warped: bool


def augment(image: np.ndarray, label: np.ndarray, seed: int = 0, **fields: Any) -> Seen:
    image.setflags(write=False)
    label.setflags(write=False)
    augmenter = Augmenter(AugmentationConfig(**{**NONE, **fields}), seed=3)
    found = augmenter(as_tensor(image), as_tensor(label), SPACING, torch.Generator().manual_seed(seed))
    seen = found.image.numpy()
    if found.mirrored:
        seen = np.stack([found.mirror_image(channel).numpy() for channel in range(len(image))])
    return Seen(seen, found.mirror_label().numpy(), found.mirrored, found.warped)


def scan(value: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Two modalities between -1 and 3, for the most part of one value."""
    image = np.full((2, 20, 21, 22), value, np.float16)
    image[:, 0, 0, 0], image[:, -1, -1, -1] = -1, 3
    return image, np.zeros((20, 21, 22), np.uint8)


def test_flips_move_image_and_label_together_and_leave_the_last_axis() -> None:
    image, label = case()
    seen = set()
    for seed in range(40):
        flipped = augment(image, label, seed, flip=True)
        np.testing.assert_array_equal(flipped.image[0], flipped.label)
        np.testing.assert_array_equal(np.flip(flipped.label, flipped.mirrored), label)
        seen.add(int(flipped.label[0, 0, 0]))
    assert seen == {int(label[x, y, 0]) for x, y in ((3, 0), (0, 4), (3, 4))}


def test_noise_has_the_stated_size_and_no_structure() -> None:
    image, label = scan()
    noise = augment(image, label, noise=0.15).image.astype(np.float64) - image
    assert abs(noise.std() - 0.15) < 0.003
    assert abs(noise.mean()) < 0.003
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.04
    for axis in (1, 2, 3):
        here, there = np.delete(noise, 0, axis), np.delete(noise, -1, axis)
        assert abs(np.corrcoef(here.ravel(), there.ravel())[0, 1]) < 0.03
    again = augment(image, label, seed=1, noise=0.15).image.astype(np.float64) - image
    assert abs(np.corrcoef(noise.ravel(), again.ravel())[0, 1]) < 0.03


def test_brightness_shifts_a_modality_by_a_share_of_its_largest_value() -> None:
    image, label = scan()
    shift = augment(image, label, brightness=0.15).image.astype(np.float64) - image
    assert shift.reshape(2, -1).std(axis=1).max() < 2e-3  # float16
    assert 0 < abs(shift).max() <= 0.15 * 3
    assert abs(shift[0].mean() - shift[1].mean()) > 1e-3


def test_gamma_keeps_the_range_of_a_modality_and_the_order_of_its_values() -> None:
    image, label = scan(1.0)  # half way up
    changed = augment(image, label, gamma=0.5).image.astype(np.float64)
    for before, after in zip(image, changed, strict=True):
        np.testing.assert_allclose(after[before == -1], -1, atol=2e-3)
        np.testing.assert_allclose(after[before == 3], 3, atol=4e-3)
        middle = float((after[before == 1] + 1).mean() / 4)
        assert 0.5**1.5 - 1e-3 <= middle <= 0.5 ** (1 / 1.5) + 1e-3
        assert abs(middle - 0.5) > 1e-3


def test_the_bias_field_is_smooth_positive_and_within_its_strength() -> None:
    image, label = scan(1.0)
    field = (augment(image, label, bias_field=0.4).image.astype(np.float64) + 1) / 2
    inner = field[:, 1:-1]  # all of one value before
    assert inner.max() <= np.exp(0.4) + 2e-3
    assert inner.min() >= np.exp(-0.4) - 2e-3
    assert inner.std() > 0.01
    assert max(abs(np.diff(inner, axis=axis)).max() for axis in (1, 2, 3)) < 0.1


def test_modality_dropout_blanks_some_and_never_all() -> None:
    image = np.random.default_rng(0).normal(size=(3, 6, 6, 6)).astype(np.float16)
    label = np.zeros((6, 6, 6), np.uint8)
    left = set()
    for seed in range(60):
        changed = augment(image, label, seed, modality_dropout=0.5).image
        for before, after in zip(image, changed, strict=True):
            assert np.array_equal(after, before) or not after.any()
        left.add(sum(bool(channel.any()) for channel in changed))
    assert left == {1, 2, 3}


ALL: dict[str, Any] = {
    "flip": True,
    "brightness": 0.1,
    "noise": 0.1,
    "rotation": 20.0,
    "scale": 0.2,
    "gamma": 0.3,
    "bias_field": 0.3,
    "modality_dropout": 0.3,
}


def test_equal_generators_give_equal_cases_and_inputs_stay() -> None:
    image = np.random.default_rng(0).normal(size=(2, 12, 11, 10)).astype(np.float16)
    label = np.random.default_rng(1).integers(0, 3, (12, 11, 10)).astype(np.uint8)
    kept = image.copy(), label.copy()
    first, second, other = (augment(image, label, seed, **ALL) for seed in (4, 4, 5))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.label, second.label)
    assert not np.array_equal(first.image, other.image)
    assert first.warped
    assert first.image.dtype == np.float16
    np.testing.assert_array_equal(image, kept[0])
    np.testing.assert_array_equal(label, kept[1])


@pytest.mark.parametrize("fields", [{**ALL, "probability": 0.0}, {}])
def test_off_means_off(fields: dict[str, Any]) -> None:
    image, label = case()
    same = augment(image, label, **fields)
    np.testing.assert_array_equal(same.image, image)
    np.testing.assert_array_equal(same.label, label)
    assert np.shares_memory(same.image, image)
    assert (same.mirrored, same.warped) == ((), False)


def test_a_step_in_two_gets_each() -> None:
    image, label = case()
    changed = [augment(image, label, seed, probability=0.5, brightness=0.5) for seed in range(200)]
    count = sum(not np.array_equal(each.image, image) for each in changed)
    assert 70 < count < 130


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"noise": -0.1}, "noise: expected 0 or a positive number, found -0.1"),
        ({"rotation": float("inf")}, "rotation: expected 0 or a positive number"),
        ({"scale": 1.0}, "scale: expected a fraction from 0 to 1, found 1.0"),
        ({"modality_dropout": 1.0}, "modality_dropout: expected a fraction"),
        ({"probability": 1.5}, "probability: expected a fraction"),
    ],
)
def test_what_cannot_be_applied_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AugmentationConfig(**fields)
