"""The paper's optimiser, Lookahead around RAdam, and plain AdamW beside it; learning-rate schedules."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import cos, pi
from typing import Any, Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class OptimiserConfig:
    """The paper's recipe by default."""

    name: Literal["lookahead-radam", "adamw"] = "lookahead-radam"
    """Lookahead(RAdam) as in the paper, or AdamW."""
    learning_rate: float = 3e-4
    """Of everything but the Padé coefficients."""
    pade_learning_rate: float = 3e-4
    """Of the Padé coefficients. The reference names 1e-2, but a shared buffer of its RAdam undid it."""
    weight_decay: float = 0.0
    """Of everything but the Padé coefficients."""
    lookahead_steps: int = 5
    """Steps between two pulls towards the slow weights."""
    lookahead_alpha: float = 0.8
    """How far the slow weights follow the fast ones."""
    schedule: Literal["multistep", "cosine", "constant"] = "multistep"
    """How the rate falls over a run's progress."""
    milestones: tuple[float, ...] = (0.4, 0.6)
    """Progress at which a multistep schedule divides the rate by 10 (paper: epochs 20 and 30 of 50)."""


class Lookahead:
    """Slow weights that follow an optimiser's fast ones every few steps (Zhang et al., 2019).

    As in the reference, the slow weights start at the values after the first step.
    """

    def __init__(self, optimiser: torch.optim.Optimizer, *, steps: int, alpha: float) -> None:
        self.optimiser = optimiser
        self._steps, self._alpha = steps, alpha
        self._taken = 0
        self._slow: list[Tensor] = []

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The fast optimiser's groups."""
        return self.optimiser.param_groups

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.optimiser.zero_grad()

    @torch.no_grad()
    def step(self) -> None:
        """One fast step; every `steps` steps, counted from the first, a pull towards the slow weights."""
        self.optimiser.step()
        if self._taken == 0:
            self._slow = [parameter.detach().clone() for parameter in self._parameters()]
        elif self._taken % self._steps == 0:
            for fast, slow in zip(self._parameters(), self._slow, strict=True):
                fast.copy_(slow.lerp_(fast, self._alpha))
        self._taken += 1

    def tensors(self) -> list[Tensor]:
        """The slow weights."""
        return self._slow

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on."""
        return {"fast": self.optimiser.state_dict(), "slow": self._slow, "taken": self._taken}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        self.optimiser.load_state_dict(state["fast"])
        self._taken = int(state["taken"])
        self._slow = [
            slow.to(parameter) for slow, parameter in zip(state["slow"], self._parameters(), strict=False)
        ]

    def _parameters(self) -> Iterable[nn.Parameter]:
        return (parameter for group in self.param_groups for parameter in group["params"])


Optimiser = torch.optim.Optimizer | Lookahead


def build_optimiser(network: nn.Module, config: OptimiserConfig) -> Optimiser:
    """The optimiser with two groups: Padé coefficients, which never decay, and all the rest."""
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
    radam = torch.optim.RAdam(groups, foreach=False)  # the fused-list form keeps a copy of all parameters
    return Lookahead(radam, steps=config.lookahead_steps, alpha=config.lookahead_alpha)


def resident(optimiser: Optimiser) -> list[Tensor]:
    """Every tensor that the optimiser keeps between steps."""
    inner = optimiser.optimiser if isinstance(optimiser, Lookahead) else optimiser
    moments = [value for state in inner.state.values() for value in state.values() if torch.is_tensor(value)]
    return moments + (optimiser.tensors() if isinstance(optimiser, Lookahead) else [])


def set_progress(optimiser: Optimiser, progress: float, config: OptimiserConfig) -> None:
    """Set the learning rates for a share of the run done, in [0, 1]."""
    factor = rate_factor(progress, config)
    for group in optimiser.param_groups:
        group["lr"] = group["initial_lr"] * factor


def rate_factor(progress: float, config: OptimiserConfig) -> float:
    """What multiplies the learning rate at a share of the run done."""
    if config.schedule == "multistep":
        return 0.1 ** sum(progress >= milestone for milestone in config.milestones)
    if config.schedule == "cosine":
        return 0.5 * (1 + cos(pi * min(progress, 1.0)))
    return 1.0
