"""Configuration of a study: objectives, memory budget, sampler and early stopping."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ossnet.config_tree import unknown_name
from ossnet.errors import UserError
from ossnet.metric_names import MEMORY, VAL_DICE

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

SamplerName = Literal["tpe", "gp", "nsga2"]
DEFAULT_TRIALS = 10
"""Configurations that a study tries where neither their number nor the time is given."""
VIOLATION = "violation_gib"
"""Attribute of a trial: by how many GiB it misses the budget; zero or less is feasible."""
OBJECTIVES = {"dice": (VAL_DICE, "maximize"), "memory": (MEMORY, "minimize")}
_LEARN_FROM_VALUES = {"gp", "nsga2"}


@dataclass(frozen=True)
class EarlyStoppingConfig:
    """The rule by which trials are stopped early."""

    algorithm: Literal["asha", "median", "none"] = "asha"
    """asha (Li et al., 2020): a trial continues while it is among the best that reached its rung. median
    (Golovin et al., 2017): while its best is not below the median of the others' means so far."""
    grace_period: int | None = None
    """Epochs that every trial gets; by default until its first validation."""
    reduction_factor: int = 2
    """asha: the ratio of the epochs of adjacent rungs; the first rung is at `grace_period`."""


@dataclass(frozen=True)
class OptimizationConfig:
    """A study's objectives, its budget and its sampler."""

    budget_gib: float | None = None
    """Peak memory of a training step, in GiB, that no trial may pass."""
    objectives: tuple[str, ...] = ("dice",)
    """One or two of `OBJECTIVES`, Dice first."""
    sampler: SamplerName = "tpe"
    seeds: int = 1
    """Number of times each configuration is trained, each with another seed."""
    n_startup_trials: int = 8
    """Trials that fill the space evenly before the sampler learns from their values."""

    def __post_init__(self) -> None:
        """Reject objectives that nothing can be compared by, and less than one seed.

        Raises:
            UserError: names the option.
        """
        for name in self.objectives:
            if name not in OBJECTIVES:
                raise unknown_name("objectives", "objective", name, OBJECTIVES)
        if self.objectives not in {("dice",), ("dice", "memory")}:
            raise UserError("objectives", expected="dice, or dice,memory", found=",".join(self.objectives))
        if self.seeds < 1:
            raise UserError("seeds", expected="at least 1", found=str(self.seeds))

    @property
    def directions(self) -> list[str]:
        """Optuna's direction of each objective."""
        return [OBJECTIVES[name][1] for name in self.objectives]

    @property
    def ignores_pruned(self) -> bool:
        """Whether the sampler learns from trials with values only: it would not see a pruned one."""
        return self.sampler in _LEARN_FROM_VALUES

    def values(self, dice: float, memory_gib: float) -> list[float]:
        """The values of the objectives, in their order."""
        known = {"dice": dice, "memory": memory_gib}
        return [known[name] for name in self.objectives]

    def build_sampler(self, *, seed: int, n_suggested: int, startup: bool) -> "BaseSampler":
        """The sampler of a study's next suggestion.

        Args:
            seed: the study's.
            n_suggested: suggestions so far. Every one has a stream of random numbers of its own, so that a
                study that is resumed after a loss draws as one that never stopped.
            startup: fill the space evenly, without learning.
        """
        import optuna

        with warnings.catch_warnings():  # parts of its samplers may change: a test watches them
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return self._sampler(seed, seed * 1_000_003 + n_suggested, startup=startup)

    def _sampler(self, seed: int, stream: int, *, startup: bool) -> "BaseSampler":
        from optuna import samplers

        if startup:
            spare = samplers.RandomSampler(seed=stream)
            return samplers.QMCSampler(
                scramble=True, seed=seed, independent_sampler=spare, warn_independent_sampling=False
            )
        constraints = constraint_options()
        if self.sampler == "gp":
            return samplers.GPSampler(seed=stream, n_startup_trials=1, **constraints)
        if self.sampler == "nsga2":
            return samplers.NSGAIISampler(
                seed=stream, population_size=max(4, self.n_startup_trials), **constraints
            )
        return samplers.TPESampler(
            seed=stream,
            n_startup_trials=1,
            multivariate=True,
            group=True,
            constant_liar=True,
            **constraints,
        )


def constraint_options() -> dict[str, Any]:
    """Options with which Optuna's samplers learn from constraints."""
    import optuna

    # before version 5 Optuna calls a function, and warns of it since
    old = not hasattr(optuna.trial.Trial, "set_constraint")
    return {"constraints_func": _violations} if old else {}


def _violations(trial: "FrozenTrial") -> Sequence[float]:
    return [trial.user_attrs.get(VIOLATION, 0.0)]
