"""Choices of any kind in a search space: what Optuna's storage keeps of them, and how they come back."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Trial

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
