"""Configuration of a study: objectives, constraints, sampler and early stopping."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ossnet.config_tree import unknown_name
from ossnet.errors import UserError
from ossnet.metric_names import CASE_MEDIAN, INFERENCE_MEMORY, MEMORY, VAL_DICE

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

SamplerName = Literal["tpe", "gp", "nsga2"]
DEFAULT_TRIALS = 10
"""Configurations that a study tries where neither their number nor the time is given."""
VIOLATION = "violation_gib"
"""Attribute of a trial: by how many GiB it misses the budget; zero or less is feasible."""
OTHER_VIOLATIONS = "violations"
"""Attribute of a trial: by how much it misses the other limits that its study has, by their constraints."""
_LEARN_FROM_VALUES = {"gp", "nsga2"}


class Objective(NamedTuple):
    """What a study is searched for."""

    metric: str
    direction: Literal["maximize", "minimize"]
    unit: str
    label: str
    """For axes of figures."""


OBJECTIVES = {
    "dice": Objective(VAL_DICE, "maximize", "", "Dice (validation)"),
    "memory": Objective(MEMORY, "minimize", " GiB", "peak memory of a training step (GiB)"),
    "inference-memory": Objective(INFERENCE_MEMORY, "minimize", " GiB", "peak memory of predicting (GiB)"),
    "seconds": Objective(CASE_MEDIAN, "minimize", " s", "seconds a case (validation)"),
}
"""By their names; Dice first, as it is what stopped trials are compared by."""


def parse_objectives(text: str) -> tuple[str, ...]:
    """The objectives of an option, in the order of `OBJECTIVES`.

    Raises:
        UserError: one is unknown (names the nearest) or named twice, or Dice is missing.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in OBJECTIVES:
            raise unknown_name("objectives", "objective", name, OBJECTIVES)
    if "dice" not in names or len(set(names)) < len(names):
        raise UserError(
            "objectives",
            expected=f"dice, and any of {', '.join(list(OBJECTIVES)[1:])}, each once",
            found=text,
            remedy=None if "dice" in names else "without Dice the smallest network would be the best",
        )
    return tuple(name for name in OBJECTIVES if name in names)


@dataclass(frozen=True)
class EarlyStoppingConfig:
    """The rule by which trials are stopped early.

    asha (Li et al., 2020): a trial continues while it is among the best that reached its rung. hyperband
    (Li et al., 2018): the same in each of several brackets, whose first rungs differ. median (Golovin et al.,
    2017): while its best is not below the median of the others' means so far.
    """

    algorithm: Literal["asha", "hyperband", "median", "none"] = "asha"
    """How trials are compared."""
    grace_period: int | None = None
    """Epochs that every trial gets; by default until its first validation."""
    reduction_factor: int = 2
    """Ratio of the epochs of adjacent rungs."""
    brackets: int = 3
    """Brackets of hyperband, at most."""

    def __post_init__(self) -> None:
        """Reject rungs that are no rungs.

        Raises:
            UserError: names the option.
        """
        least = {"grace_period": 1, "reduction_factor": 2, "brackets": 1}
        for name, value in least.items():
            given = getattr(self, name)
            if given is not None and given < value:
                raise UserError(name, expected=f"at least {value}", found=str(given))

    @property
    def most_brackets(self) -> int:
        """The number of brackets that trials are compared in, at most."""
        return self.brackets if self.algorithm == "hyperband" else 1


@dataclass(frozen=True)
class OptimizationConfig:
    """A study's objectives, its constraints and its sampler."""

    budget_gib: float | None = None
    """Peak memory of a training step, in GiB, that no trial may pass."""
    objectives: tuple[str, ...] = ("dice",)
    """Some of `OBJECTIVES` in their order, Dice among them."""
    sampler: SamplerName = "tpe"
    seeds: int = 1
    """Number of times each configuration is trained, each with another seed."""
    n_startup_trials: int = 8
    """Trials that fill the space evenly before the sampler learns from their values."""
    inference_budget_gib: float | None = None
    """Predicted peak memory of predicting a case, in GiB, that no trial may pass."""
    seconds_per_case: float | None = None
    """Measured seconds of predicting a case that no trial may pass."""

    def __post_init__(self) -> None:
        """Reject objectives that nothing can be compared by, and less than one seed.

        Raises:
            UserError: names the option.
        """
        parse_objectives(",".join(self.objectives))
        if self.seeds < 1:
            raise UserError("seeds", expected="at least 1", found=str(self.seeds))

    @property
    def directions(self) -> list[str]:
        """Optuna's direction of each objective."""
        return [OBJECTIVES[name].direction for name in self.objectives]

    @property
    def predicts_inference(self) -> bool:
        """Whether the memory of predicting a case has to be known of each configuration."""
        return self.inference_budget_gib is not None or "inference-memory" in self.objectives

    @property
    def ignores_pruned(self) -> bool:
        """Whether the sampler learns from trials with values only: it would not see a pruned one."""
        return self.sampler in _LEARN_FROM_VALUES

    def values(self, metrics: Mapping[str, float]) -> list[float]:
        """The values of the objectives, in their order; infinite costs where one is not known."""
        known = {each.metric: math.inf for each in OBJECTIVES.values() if each.direction == "minimize"}
        known.update(metrics)
        return [known[OBJECTIVES[name].metric] for name in self.objectives]

    def violations(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """By how much a trial passes each limit, by constraint: GiB of memory, parts of the allowed seconds.

        Negative where there is room, 0 where nothing is known, as for memory without a budget.
        """
        limits = {
            "memory": (MEMORY, self.budget_gib),
            "inference": (INFERENCE_MEMORY, self.inference_budget_gib),
            "seconds": (CASE_MEDIAN, self.seconds_per_case),
        }
        found = {"memory": 0.0}
        for name, (metric, limit) in limits.items():
            if limit is not None:
                excess = metrics.get(metric, limit) - limit
                found[name] = excess / limit if name == "seconds" else excess
        return found

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
    return [trial.user_attrs.get(VIOLATION, 0.0), *trial.user_attrs.get(OTHER_VIOLATIONS, {}).values()]
