"""Batch statistics in one process: torch's own numbers, and refusal of what has no variance."""

import pytest
import torch
from torch import nn

from ossnet.models.kernels.normalization import BatchNorm, ConditionalNorm
from ossnet.models.kernels.statistics import batch_moments


@pytest.mark.parametrize("offset", [0.0, 3000.0])
def test_moments_survive_a_mean_far_from_zero(offset: float) -> None:
    batch = torch.randn(2, 3000, 48, generator=torch.Generator().manual_seed(0)) + offset
    exact = batch.double()
    per_column = batch_moments(batch, 48)
    torch.testing.assert_close(per_column.mean.double(), exact.mean((0, 1)), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(
        per_column.variance.double(), exact.var((0, 1), unbiased=False), rtol=1e-5, atol=0
    )
    lone = batch_moments(batch, 1)
    torch.testing.assert_close(lone.variance.double(), exact.var(unbiased=False).view(1), rtol=1e-5, atol=0)
    assert (lone.values, per_column.values) == (batch.numel(), 6000)


def test_columns_may_share_a_statistic() -> None:
    batch = torch.randn(2, 30, 12, generator=torch.Generator().manual_seed(0))
    moments = batch_moments(batch, 4)
    channels = batch.view(2, 30, 3, 4)
    torch.testing.assert_close(moments.mean, channels.mean((0, 1, 2)))
    torch.testing.assert_close(moments.variance, channels.var((0, 1, 2), unbiased=False))


def test_running_statistics_are_those_of_torch() -> None:
    theirs, ours = nn.BatchNorm3d(5), BatchNorm(5)
    scalar_theirs, scalar_ours = nn.BatchNorm1d(1), ConditionalNorm(2, 5, per_feature=False)
    for step in range(3):
        volume = torch.randn(2, 5, 3, 4, 2, generator=torch.Generator().manual_seed(step)) * 2 + 1
        rows = volume.movedim(1, 4).reshape(2, 24, 5)
        theirs(volume)
        ours.standardization(rows)
        scalar_theirs(rows.reshape(-1, 1))
        scalar_ours.standardization(rows)
    for one, other in ((ours, theirs), (scalar_ours, scalar_theirs)):
        torch.testing.assert_close(one.running_mean, other.running_mean)
        torch.testing.assert_close(one.running_var, other.running_var)
        assert one.num_batches_tracked == other.num_batches_tracked == 3


def test_evaluation_uses_running_statistics_and_leaves_them_alone() -> None:
    norm = BatchNorm(2).eval()
    standardization = norm.standardization(torch.randn(1, 9, 2))
    torch.testing.assert_close(standardization.mean.flatten(), torch.zeros(2))
    assert standardization.values is None
    assert norm.num_batches_tracked == 0


def test_a_lone_value_is_refused() -> None:
    with pytest.raises(ValueError, match="batch statistics need two values"):
        batch_moments(torch.ones(1, 1, 3), 3)
