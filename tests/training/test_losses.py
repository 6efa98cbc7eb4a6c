"""Losses against closed forms, and their gradients in bfloat16."""

import math

import pytest
import torch

from ossnet.training.losses import LossConfig, auxiliary_loss, segmentation_loss


def test_binary_cross_entropy_is_the_papers() -> None:
    logits, labels = torch.tensor([[[2.0, -1.0, 0.5]]]), torch.tensor([[1, 0, 1]])
    probability = torch.sigmoid(logits[0, 0])
    expected = -(probability[0].log() + (1 - probability[1]).log() + probability[2].log()) / 3
    torch.testing.assert_close(segmentation_loss(logits, labels, LossConfig()), expected)


def test_several_classes_use_softmax() -> None:
    logits, labels = torch.zeros(2, 4, 5), torch.randint(0, 4, (2, 5))
    assert float(segmentation_loss(logits, labels, LossConfig())) == pytest.approx(math.log(4))


@pytest.mark.parametrize("classes", [1, 3])
def test_soft_dice_falls_from_one_to_zero_as_the_prediction_gets_right(classes: int) -> None:
    labels = torch.randint(0, classes + 1, (2, 200), generator=torch.Generator().manual_seed(0))
    config = LossConfig(cross_entropy_weight=0.0, dice_weight=1.0)
    if classes == 1:
        right = (labels[:, None].float() - 0.5) * 60
    else:
        right = torch.nn.functional.one_hot(labels, classes + 1).movedim(-1, 1) * 60.0
    assert float(segmentation_loss(right, labels, config)) == pytest.approx(0, abs=1e-3)
    assert float(segmentation_loss(-right, labels, config)) > 0.6


def test_half_precision_logits_give_a_float32_loss() -> None:
    logits = torch.randn(1, 3, 7).bfloat16().requires_grad_()
    loss = segmentation_loss(logits, torch.randint(0, 3, (1, 7)), LossConfig())
    loss.backward()
    assert loss.dtype == torch.float32
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_the_auxiliary_loss_takes_overlapping_classes() -> None:
    target = torch.ones(1, 2, 2, 2, 2)
    assert float(auxiliary_loss(torch.zeros_like(target), target)) == pytest.approx(math.log(2))
