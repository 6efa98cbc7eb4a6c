"""Values of a search space's parameters: choices of any kind as Optuna's storage keeps them, and points near
good values that the space's author knows (as in PriorBand, arXiv 2306.12370)."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

_WIDTH = 0.125  # standard deviation around a value, as a part of its range
_KEPT = 0.75  # chance of a choice to stay as it is
_SCALARS = (bool, int, float, str)  # and None: the types that storages keep


class SpaceTrial:
    """A trial as a space sees it: Optuna's own, but `suggest_categorical` takes choices of any kind.

    Storages keep JSON and give a tuple back as a list, which is another choice then. So what they keep is a
    plain value that stands for the choice, and the space is given its own object.
    """

    def __init__(self, trial: "Trial") -> None:
        self._trial = trial

    def __getattr__(self, name: str) -> Any:
        return getattr(self._trial, name)

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of the choices."""
        from optuna.distributions import CategoricalDistribution

        choices = list(choices)
        stored = stored_choices(choices)
        value = self._trial.suggest_categorical(name, stored)
        return choices[int(CategoricalDistribution(stored).to_internal_repr(value))]


def stored_choices(choices: Sequence[Any]) -> list[Any]:
    """What is stored of each choice. Those that differ stay different, even 1 and True, which are equal."""
    stored = list[Any]()
    for position, choice in enumerate(choices):
        value = stored_choice(choice)
        equal = [each for each, known in zip(choices, stored, strict=False) if known == value]
        if equal and repr(equal[0]) != repr(choice):
            value = f"{json.dumps(value)} #{position}"
        stored.append(value)
    return stored


def stored_choice(choice: Any) -> Any:
    """What is stored of a choice: itself, if it is None, a bool, a number or a string; else its JSON text."""
    if choice is None or type(choice) in _SCALARS:
        return choice
    text = _json(choice)
    value = json.loads(text)
    return value if value is None or isinstance(value, _SCALARS) else text


def stored_point(point: Mapping[str, Any]) -> dict[str, Any]:
    """A point to evaluate, with values as they are stored."""
    return {name: stored_choice(value) for name, value in point.items()}


def _json(value: Any) -> str:
    try:
        return json.dumps(value, default=_plain)
    except (TypeError, ValueError):  # keys that are no strings, or a list that holds itself
        return json.dumps(repr(value))


def _plain(value: Any) -> Any:
    """A value that JSON does not know as one that it knows, the same in every process."""
    if hasattr(value, "tolist"):  # of numpy or torch
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    name = getattr(value, "__qualname__", None)
    return name if isinstance(name, str) else re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def near_prior_sampler(prior: Mapping[str, Any], *, seed: int) -> "BaseSampler":
    """A sampler of points near a prior; parameters that are not in it are drawn at random."""
    from optuna.samplers import RandomSampler

    class NearPriorSampler(RandomSampler):
        """Draws numbers from a Gaussian around their value, choices mostly as they are."""

        def __init__(self) -> None:
            super().__init__(seed=seed)
            self._random = np.random.default_rng(seed)

        def sample_independent(
            self, study: Any, trial: Any, param_name: str, param_distribution: "BaseDistribution"
        ) -> Any:
            """A value near the prior's, where it has one in this range."""
            value = prior.get(param_name)
            if param_name in prior and in_range(value, param_distribution):
                near = _near(value, param_distribution, self._random)
                if near is not None:
                    return near
            return super().sample_independent(study, trial, param_name, param_distribution)

    return NearPriorSampler()


def in_range(value: Any, distribution: "BaseDistribution") -> bool:
    """Whether a parameter can have a value, as it is stored."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return any(value == choice and type(value) is type(choice) for choice in distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and distribution.low <= value <= distribution.high


def range_text(distribution: "BaseDistribution") -> str:
    """A parameter's range in words."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return f"one of {', '.join(map(str, distribution.choices))}"
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return f"from {distribution.low:g} to {distribution.high:g}"


def _near(value: Any, distribution: "BaseDistribution", random: np.random.Generator) -> Any:
    """A value near another one; None for a choice that is to be drawn at random."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return value if random.random() < _KEPT else None
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, center = (
        np.log([distribution.low, distribution.high, value])
        if distribution.log
        else np.array([distribution.low, distribution.high, value], float)
    )
    drawn = np.clip(random.normal(center, _WIDTH * (high - low)), low, high)
    number = float(np.exp(drawn)) if distribution.log else float(drawn)
    number = min(max(number, distribution.low), distribution.high)
    if distribution.step is not None:
        number = distribution.low + round((number - distribution.low) / distribution.step) * distribution.step
        number = min(number, distribution.high)
    return int(number) if isinstance(distribution, IntDistribution) else number
