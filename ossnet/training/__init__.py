"""Training a network: losses, optimizers, one step, the loop."""

from ossnet.training.config import LossConfig, OptimizerConfig, TrainingConfig
from ossnet.training.reporting import Reporter

__all__ = ["LossConfig", "OptimizerConfig", "Reporter", "TrainingConfig"]
