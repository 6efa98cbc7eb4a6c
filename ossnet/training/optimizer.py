"""The paper's optimizer, Lookahead around RAdam, plain AdamW and nnU-Net's SGD; learning-rate schedules."""

from collections.abc import Iterable
from math import cos, pi
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ossnet.training.config import OptimizerConfig

_MOMENTUM, _POWER = 0.99, 0.9  # of nnU-Net's SGD and its schedule


class Lookahead:
    """Slow weights that follow an optimizer's fast ones every few steps (Zhang et al., 2019).

    As in the reference, the slow weights start at the values after the first step.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, *, steps: int, alpha: float) -> None:
        self.optimizer = optimizer
        self._steps, self._alpha = steps, alpha
        self._taken = 0
        self._slow: list[Tensor] = []

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The fast optimizer's groups."""
        return self.optimizer.param_groups

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Let go of the gradients, or set them to zero."""
        self.optimizer.zero_grad(set_to_none)

    @torch.no_grad()
    def step(self) -> None:
        """Take a fast step; every `steps` steps, counted from the first, pull towards the slow weights."""
        self.optimizer.step()
        if self._taken == 0:
            self.start()
        elif self._taken % self._steps == 0:
            for fast, slow in zip(self._parameters(), self._slow, strict=True):
                fast.copy_(slow.lerp_(fast, self._alpha))
        self._taken += 1

    def start(self) -> None:
        """Take the values that the parameters have for the slow weights."""
        self._slow = [parameter.detach().clone() for parameter in self._parameters()]

    def tensors(self) -> list[Tensor]:
        """The slow weights."""
        return self._slow

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue."""
        return {"fast": self.optimizer.state_dict(), "slow": self._slow, "taken": self._taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.optimizer.load_state_dict(state["fast"])
        self._taken = int(state["taken"])
        self._slow = [
            slow.to(parameter) for slow, parameter in zip(state["slow"], self._parameters(), strict=False)
        ]

    def _parameters(self) -> Iterable[nn.Parameter]:
        return (parameter for group in self.param_groups for parameter in group["params"])


Optimizer = torch.optim.Optimizer | Lookahead


class Steps(Protocol):
    """What a training step asks of an optimizer."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Let go of the gradients, or set them to zero."""

    def step(self) -> object:
        """Change the parameters by their gradients."""


def build_optimizer(network: nn.Module, config: OptimizerConfig) -> Optimizer:
    """The optimizer with two groups: Padé coefficients, which never decay, and all the rest."""
    pade: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        (pade if name.endswith(("numerator", "denominator")) else rest).append(parameter)
    groups = [
        {"params": rest, "lr": config.learning_rate, "weight_decay": config.weight_decay},
        {"params": pade, "lr": config.pade_learning_rate, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    for group in groups:
        group["initial_lr"] = group["lr"]
    if config.name == "adamw":
        return torch.optim.AdamW(groups)
    if config.name == "sgd":
        return torch.optim.SGD(groups, momentum=_MOMENTUM, nesterov=True, foreach=False)
    radam = torch.optim.RAdam(groups, foreach=False)  # the fused-list form keeps a copy of all parameters
    return Lookahead(radam, steps=config.lookahead_steps, alpha=config.lookahead_alpha)


def state_tensors(optimizer: Optimizer) -> list[Tensor]:
    """Every tensor that the optimizer keeps between steps."""
    inner = optimizer.optimizer if isinstance(optimizer, Lookahead) else optimizer
    moments = [value for state in inner.state.values() for value in state.values() if torch.is_tensor(value)]
    return moments + (optimizer.tensors() if isinstance(optimizer, Lookahead) else [])


def set_lr(optimizer: Optimizer, progress: float, config: OptimizerConfig) -> None:
    """Set the learning rates for a share of the run done, in [0, 1]."""
    factor = lr_factor(progress, config)
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def lr_factor(progress: float, config: OptimizerConfig) -> float:
    """The factor of the learning rate at a fraction of the run."""
    if config.schedule == "multistep":
        return 0.1 ** sum(progress >= milestone for milestone in config.milestones)
    if config.schedule == "cosine":
        return 0.5 * (1 + cos(pi * min(progress, 1.0)))
    if config.schedule == "polynomial":
        return max(1 - progress, 0.0) ** _POWER
    return 1.0
