"""Training a network: losses, optimisers, one step, the loop."""

from ossnet.training.loop import Reporter, TrainingConfig
from ossnet.training.losses import LossConfig
from ossnet.training.optimizer import OptimiserConfig

__all__ = ["LossConfig", "OptimiserConfig", "Reporter", "TrainingConfig"]
