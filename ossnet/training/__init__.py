"""Training a network: losses, optimizers, one step, the loop."""

from ossnet.training.loop import TrainingConfig
from ossnet.training.losses import LossConfig
from ossnet.training.optimizer import OptimizerConfig
from ossnet.training.reporting import Reporter

__all__ = ["LossConfig", "OptimizerConfig", "Reporter", "TrainingConfig"]
