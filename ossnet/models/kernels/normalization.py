"""Batch normalization, plain and conditioned on a latent: parameters and running statistics.

Letters: B batch, N rows, W columns, L latent length. `fused.py` applies them, with the activation.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ossnet.models.kernels.statistics import Moments, batch_moments, unfold

_MOMENTUM = 0.1
_EPSILON = 1e-5


class Modulation(NamedTuple):
    """Gain and offset of each column after normalization: one row for all volumes, or one a volume."""

    gamma: Float[Tensor, "B 1 W"]
    beta: Float[Tensor, "B 1 W"]


class Standardization(NamedTuple):
    """The values that are subtracted and multiplied to standardize a batch: per column, or one for all
    columns."""

    mean: Float[Tensor, "1 1 V"]
    inverse_deviation: Float[Tensor, "1 1 V"]
    statistics: int
    """Number of different values; column w has value w mod this."""
    values: float | Tensor | None
    """Number of values of the batch behind each statistic; None when they are constants."""


class BatchStatistics(nn.Module):
    """Statistics of the batch while training (of all ranks together), running averages in evaluation."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor
    compiled = False
    """Whether `compiled.py` computes them; see `compile_arithmetic`."""
    tracked = True
    """Whether running averages follow; not while a batch is gone through again."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(length))
        self.register_buffer("running_var", torch.ones(length))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))

    def standardization(self, batch: Float[Tensor, "B N W"]) -> Standardization:
        """Statistics for the columns of a batch; while training this updates the running averages."""
        width, statistics = batch.shape[2], self.running_mean.numel()
        if not self.training:
            deviation = (self.running_var + _EPSILON).rsqrt()
            return Standardization(
                unfold(self.running_mean, width), unfold(deviation, width), statistics, None
            )
        with torch.no_grad():
            moments = batch_moments(batch, statistics, compiled=self.compiled)
            if self.tracked:
                self._track(moments)
            deviation = (moments.variance + _EPSILON).rsqrt()
        return Standardization(
            unfold(moments.mean, width), unfold(deviation, width), statistics, moments.values
        )

    def _track(self, moments: Moments) -> None:
        unbiased = moments.variance * (moments.values / (moments.values - 1))
        for average, value in ((self.running_mean, moments.mean), (self.running_var, unbiased)):
            average.lerp_(value.to(average.dtype), _MOMENTUM)
        self.num_batches_tracked += 1


class BatchNorm(BatchStatistics):
    """Batch normalization of channels, with learnt gain and offset."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def modulation(self, repeats: int) -> Modulation:
        """Gain and offset for a batch whose columns hold the channels `repeats` times over."""
        return Modulation(
            self.weight.repeat(repeats).view(1, 1, -1), self.bias.repeat(repeats).view(1, 1, -1)
        )


class ConditionalNorm(BatchStatistics):
    """Batch normalization whose gain and offset a volume's latent decides.

    With `per_feature` false there is one mean and one variance over all points and all features together, as
    in the paper's code: features are not standardized one by one.
    """

    def __init__(self, latent_length: int, features: int, *, per_feature: bool) -> None:
        super().__init__(features if per_feature else 1)
        self.gamma = nn.Linear(latent_length, features)
        self.beta = nn.Linear(latent_length, features)
        nn.init.zeros_(self.gamma.weight)
        nn.init.zeros_(self.beta.weight)
        nn.init.ones_(self.gamma.bias)
        nn.init.zeros_(self.beta.bias)

    def modulation(self, latent: Float[Tensor, "B L"]) -> Modulation:
        """Gain and offset of each feature, one row a volume."""
        return Modulation(self.gamma(latent).unsqueeze(1), self.beta(latent).unsqueeze(1))
