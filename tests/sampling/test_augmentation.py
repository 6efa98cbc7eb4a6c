"""Augmentation: image and label move together, the inputs stay, switches switch."""

import torch

from ossnet.sampling.augmentation import AugmentationConfig, augment


def case() -> tuple[torch.Tensor, torch.Tensor]:
    label = torch.arange(4 * 5 * 6).reshape(4, 5, 6)
    return torch.stack([label.float(), -label.float()]), label


def test_flips_move_image_and_label_together_and_leave_the_last_axis() -> None:
    image, label = case()
    config = AugmentationConfig(probability=1.0, brightness=0, noise=0)
    seen = set()
    for seed in range(40):
        flipped, labels = augment(image, label, config, torch.Generator().manual_seed(seed))
        assert torch.equal(flipped[0], labels.float())
        seen.add(int(labels[0, 0, 0]))
    corners = {int(label[x, y, 0]) for x, y in ((3, 0), (0, 4), (3, 4))}
    assert seen == corners


def test_noise_and_brightness_have_the_stated_size() -> None:
    image, label = torch.ones(2, 20, 20, 20), torch.zeros(20, 20, 20)
    noisy = AugmentationConfig(probability=1.0, flip=False, brightness=0)
    noise = augment(image, label, noisy, torch.Generator().manual_seed(0))[0] - image
    assert abs(float(noise.std()) - 0.15) < 0.01
    bright = AugmentationConfig(probability=1.0, flip=False, noise=0)
    shift = augment(image, label, bright, torch.Generator().manual_seed(0))[0] - image
    assert (shift.flatten(1).std(dim=1) < 1e-6).all()
    assert 0 < float(shift.abs().max()) <= 0.15


def test_off_means_off_and_inputs_stay() -> None:
    image, label = case()
    kept = image.clone()
    same, labels = augment(image, label, AugmentationConfig(probability=0), torch.Generator())
    assert torch.equal(same, kept)
    assert torch.equal(labels, label)
    augment(image, label, AugmentationConfig(probability=1), torch.Generator())
    assert torch.equal(image, kept)
