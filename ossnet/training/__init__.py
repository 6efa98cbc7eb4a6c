"""Training a network: losses, optimizers, one step, the loop."""

from ossnet.training.loop import Reporter, TrainingConfig
from ossnet.training.losses import LossConfig
from ossnet.training.optimizer import OptimizerConfig

__all__ = ["LossConfig", "OptimizerConfig", "Reporter", "TrainingConfig"]
