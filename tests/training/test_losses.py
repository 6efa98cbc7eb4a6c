"""Losses against closed forms, and their values and gradients far out in bfloat16."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ossnet.config_tree import from_dict
from ossnet.errors import UserError
from ossnet.training.config import LossConfig
from ossnet.training.losses import auxiliary_loss, deep_supervision_loss, segmentation_loss

CROSS_ENTROPY = LossConfig()
DICE = LossConfig(cross_entropy_weight=0.0, dice_weight=1.0)
FOCAL = LossConfig(cross_entropy_weight=0.0, focal_weight=1.0)
MIXED = LossConfig(cross_entropy_weight=0.5, dice_weight=1.0, focal_weight=2.0, focal_gamma=1.0)

Targets = Callable[[Tensor], Tensor]


def classes_of(logits: Tensor) -> Tensor:
    """A class of each place, the background and the last one among them."""
    classes = max(logits.shape[1], 2)
    return torch.arange(logits.shape[0] * logits.shape[2]).view(len(logits), -1) % classes


def regions_of(logits: Tensor) -> Tensor:
    """Memberships of overlapping regions: places in none, in one and in several."""
    generator = torch.Generator().manual_seed(3)
    return torch.randint(2, logits.shape, generator=generator).float()


def random_logits(*shape: int) -> Tensor:
    return 2 * torch.randn(shape, generator=torch.Generator().manual_seed(7))


def test_binary_cross_entropy_is_the_papers() -> None:
    logits, labels = torch.tensor([[[2.0, -1.0, 0.5]]]), torch.tensor([[1, 0, 1]])
    probability = torch.sigmoid(logits[0, 0])
    expected = -(probability[0].log() + (1 - probability[1]).log() + probability[2].log()) / 3
    torch.testing.assert_close(segmentation_loss(logits, labels, LossConfig()), expected)


def test_several_classes_use_softmax() -> None:
    logits, labels = torch.zeros(2, 4, 5), torch.randint(0, 4, (2, 5))
    assert float(segmentation_loss(logits, labels, LossConfig())) == pytest.approx(math.log(4))


def test_regions_have_a_binary_cross_entropy_each() -> None:
    logits = random_logits(2, 3, 11)
    target = regions_of(logits)
    right = torch.where(target > 0, logits.sigmoid(), 1 - logits.sigmoid())
    torch.testing.assert_close(segmentation_loss(logits, target, CROSS_ENTROPY), -right.log().mean())


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
def test_focal_loss_of_regions_weights_each_place_by_how_wrong_it_is(gamma: float) -> None:
    logits = random_logits(2, 3, 11)
    target = regions_of(logits)
    right = torch.where(target > 0, logits.sigmoid(), 1 - logits.sigmoid())
    config = LossConfig(cross_entropy_weight=0.0, focal_weight=1.0, focal_gamma=gamma)
    expected = -((1 - right) ** gamma * right.log()).mean()
    torch.testing.assert_close(segmentation_loss(logits, target, config), expected)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 3.5])
def test_focal_loss_of_classes_depends_on_the_true_class(gamma: float) -> None:
    logits = random_logits(2, 4, 11)
    labels = classes_of(logits)
    right = logits.softmax(1).gather(1, labels[:, None])
    config = LossConfig(cross_entropy_weight=0.0, focal_weight=1.0, focal_gamma=gamma)
    expected = -((1 - right) ** gamma * right.log()).mean()
    torch.testing.assert_close(segmentation_loss(logits, labels, config), expected)


@pytest.mark.parametrize(("logits", "target"), [(1, classes_of), (4, classes_of), (3, regions_of)])
def test_without_focus_it_is_cross_entropy(logits: int, target: Targets) -> None:
    values = random_logits(2, logits, 9)
    plain = LossConfig(cross_entropy_weight=0.0, focal_weight=1.0, focal_gamma=0.0)
    expected = segmentation_loss(values, target(values), CROSS_ENTROPY)
    torch.testing.assert_close(segmentation_loss(values, target(values), plain), expected)


def soft_dice(probability: Tensor, target: Tensor) -> Tensor:
    """One minus twice the overlap over the sum of both, of each volume and region; their mean."""
    overlap, total = (probability * target).sum(2), probability.sum(2) + target.sum(2)
    return (1 - (2 * overlap + 1e-5) / (total + 1e-5)).mean()


def test_dice_of_regions_counts_each_region_of_each_volume() -> None:
    logits = random_logits(2, 3, 11)
    target = regions_of(logits)
    torch.testing.assert_close(segmentation_loss(logits, target, DICE), soft_dice(logits.sigmoid(), target))


def test_dice_of_classes_leaves_the_background_out() -> None:
    logits = random_logits(2, 3, 11)
    labels = classes_of(logits)
    target = torch.stack([labels == 1, labels == 2], 1).float()
    expected = soft_dice(logits.softmax(1)[:, 1:], target)
    torch.testing.assert_close(segmentation_loss(logits, labels, DICE), expected)


def test_dice_is_monais() -> None:
    from monai.losses import DiceLoss

    logits = random_logits(2, 3, 11)
    labels, regions = classes_of(logits), regions_of(logits)
    classes = DiceLoss(softmax=True, to_onehot_y=True, include_background=False)(logits, labels[:, None])
    torch.testing.assert_close(segmentation_loss(logits, labels, DICE), classes)
    overlapping = DiceLoss(sigmoid=True)(logits, regions)
    torch.testing.assert_close(segmentation_loss(logits, regions, DICE), overlapping)


def test_dice_of_a_region_that_is_neither_there_nor_predicted_is_0() -> None:
    nothing = torch.zeros(1, 2, 9)
    assert float(segmentation_loss(nothing - 1e4, nothing, DICE)) == 0


@pytest.mark.parametrize("classes", [1, 3])
def test_soft_dice_falls_from_one_to_zero_as_the_prediction_gets_right(classes: int) -> None:
    labels = torch.randint(0, classes + 1, (2, 200), generator=torch.Generator().manual_seed(0))
    if classes == 1:
        right = (labels[:, None].float() - 0.5) * 60
    else:
        right = functional.one_hot(labels, classes + 1).movedim(-1, 1) * 60.0
    assert float(segmentation_loss(right, labels, DICE)) == pytest.approx(0, abs=1e-3)
    assert float(segmentation_loss(-right, labels, DICE)) > 0.6


@pytest.mark.parametrize("config", [CROSS_ENTROPY, DICE, FOCAL, MIXED])
def test_a_single_class_is_a_single_region(config: LossConfig) -> None:
    logits = random_logits(2, 1, 9)
    labels = classes_of(logits)
    regions = segmentation_loss(logits, labels[:, None].float(), config)
    assert torch.equal(segmentation_loss(logits, labels, config), regions)


@pytest.mark.parametrize(("logits", "target"), [(1, classes_of), (4, classes_of), (3, regions_of)])
def test_weights_add_the_losses_up(logits: int, target: Targets) -> None:
    values = random_logits(2, logits, 9)
    focal = LossConfig(cross_entropy_weight=0.0, focal_weight=1.0, focal_gamma=1.0)
    parts = [segmentation_loss(values, target(values), config) for config in (CROSS_ENTROPY, DICE, focal)]
    expected = 0.5 * parts[0] + parts[1] + 2 * parts[2]
    torch.testing.assert_close(segmentation_loss(values, target(values), MIXED), expected)


@pytest.mark.parametrize("config", [CROSS_ENTROPY, DICE, FOCAL, MIXED])
@pytest.mark.parametrize(("logits", "target"), [(1, classes_of), (4, classes_of), (3, regions_of)])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e2, 1e4])
def test_bfloat16_logits_however_large_give_a_float32_loss_and_finite_gradients(
    config: LossConfig, logits: int, target: Targets, size: float
) -> None:
    signs = random_logits(2, logits, 24).sign()
    values = (size * signs).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = segmentation_loss(values, target(values), config)
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert values.grad is not None
    assert values.grad.isfinite().all()
    assert torch.equal(loss, segmentation_loss(values.float(), target(values), config))


@pytest.mark.parametrize("regions", [False, True])
def test_coarser_levels_have_half_the_weight_of_the_level_above(regions: bool) -> None:
    levels = [random_logits(2, 3, 8 >> level, -(-6 >> level), -(-5 // 2**level)) for level in range(3)]
    finest = levels[0].flatten(2)
    target = (regions_of(finest) if regions else classes_of(finest)).unflatten(-1, levels[0].shape[2:])
    found = deep_supervision_loss(levels, target, MIXED)
    every = [target, target[..., ::2, ::2, ::2], target[..., ::4, ::4, ::4]]
    own = [
        segmentation_loss(logits.flatten(2), each.flatten(-3), MIXED)
        for logits, each in zip(levels, every, strict=True)
    ]
    torch.testing.assert_close(found, (4 * own[0] + 2 * own[1] + own[2]) / 7)
    torch.testing.assert_close(deep_supervision_loss(levels[:1], target, MIXED), own[0])


def test_the_auxiliary_loss_takes_overlapping_classes() -> None:
    target = torch.ones(1, 2, 2, 2, 2)
    assert float(auxiliary_loss(torch.zeros_like(target), target)) == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"cross_entropy_weight": 0.0},
            "cross_entropy_weight, dice_weight, focal_weight: expected one above 0",
        ),
        ({"dice_weight": -0.1}, r"dice_weight: expected 0 or a positive number, found -0\.1"),
        ({"focal_weight": math.nan}, "focal_weight: expected 0 or a positive number, found nan"),
        ({"auxiliary_weight": -1.0}, "auxiliary_weight: expected 0 or a positive number"),
        ({"focal_gamma": 0.5}, r"focal_gamma: expected 0, or 1 or more, found 0\.5"),
    ],
)
def test_what_cannot_be_minimized_is_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LossConfig(**values)
    with pytest.raises(UserError, match=rf"loss[:.] ?{message}"):
        from_dict(LossConfig, values, "loss")
