"""From a data set, a recipe and a memory budget to the configuration that is trained."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from math import ceil
from typing import Any, Protocol

from ossnet.config import Config
from ossnet.errors import UserError
from ossnet.planning.configure.fingerprint import Fingerprint
from ossnet.planning.configure.recipe import AUTO_PATHS, RULES, Device, Facts, Recipe
from ossnet.planning.configure.savings import SAVED_PATHS, rungs
from ossnet.planning.estimator import PeakEstimator

NETWORK = "model"
"""The one path that is not a value: it names the network."""
_ADAPTABLE = {
    "sampling.points",
    "training.batch_size",
}  # a multiple of these is a wish, which memory may lower


class MemoryEstimator(Protocol):
    """Predicts the peak of a training step."""

    def gib(self, config: Config) -> float:
        """The peak of one worker, in GiB."""
        ...


@dataclass(frozen=True)
class Choice:
    """A value that was chosen, not given."""

    topic: str
    path: str
    value: Any
    reason: str
    """Why, in words; empty where the reason is that of the choice before."""


@dataclass(frozen=True)
class Resolved:
    """A configuration without open fields, and how it came about."""

    config: Config
    choices: tuple[Choice, ...] = ()
    saved: tuple[Choice, ...] = ()
    """What was lowered to fit the budget, with the values before in the reasons."""
    peak_gib: float | None = None
    """The predicted peak of a step; None without a budget."""
    budget_gib: float | None = None
    given: tuple[str, ...] = ()
    """The fields that were given."""
    obstacle: str | None = None
    """What keeps a configuration above its budget, as a remedy."""

    @property
    def fits(self) -> bool:
        """Whether its predicted peak is within the budget, if there is one."""
        return self.peak_gib is None or self.budget_gib is None or self.peak_gib <= self.budget_gib

    def require_fit(self) -> "Resolved":
        """This, if it fits.

        Raises:
            UserError: nothing that may be chosen fits; names what keeps it so, and the budget that would do.
        """
        if self.fits:
            return self
        assert self.peak_gib is not None
        raise UserError(
            "--memory-budget",
            expected=f"at least {_round_up(self.peak_gib):.3g} GiB for {self.config.model.name}",
            found=f"{self.budget_gib:.3g} GiB",
            remedy=self.obstacle,
        )

    def lines(self) -> list[str]:
        """What was chosen, a topic a line, and what was saved; human-readable."""
        final = self.config.flatten()
        lines = list[str]()
        for topic, group in groupby(self.choices, key=lambda choice: choice.topic):
            rows = list(group)
            values = ", ".join(
                f"{_name(row.path)} {_text(final[row.path])}" for row in rows if final[row.path] is not None
            )
            lines.append(f"{topic:<10}{values}" + (f" ({rows[0].reason})" if rows[0].reason else ""))
        if self.saved:
            savings = ", ".join(f"{_name(row.path)} {row.reason}" for row in self.saved)
            lines.append(f"{'saved':<10}{savings}")
        if self.peak_gib is not None and self.budget_gib is not None:
            lines.append(f"{'memory':<10}{self.peak_gib:.3g} GiB predicted, of {self.budget_gib:.3g} GiB")
        return lines

    def __str__(self) -> str:
        name = self.config.model.name
        lines = [f"resolved for {name}:", *(f"  {line}" for line in self.lines())]
        return "\n".join([*lines, f"  as options: {self.options()}"])

    def options(self) -> str:
        """Options of a command line that give this configuration again, whatever becomes of the recipe."""
        final = self.config.flatten()
        rows = (*self.choices, *self.saved)
        paths = dict.fromkeys([*self.given, *(row.path for row in rows)])
        words = [_option(path, final[path]) for path in paths]
        return " ".join([f"--model {self.config.model.name}", "--recipe paper", *filter(None, words)])

    def to_dict(self) -> dict[str, Any]:
        """The choices as JSON-able values."""
        final = self.config.flatten()
        rows = [
            {"path": row.path, "value": final[row.path], "reason": row.reason}
            for row in (*self.choices, *self.saved)
        ]
        return {
            "network": self.config.model.name,
            "choices": rows,
            "predicted_gib": self.peak_gib,
            "budget_gib": self.budget_gib,
            "options": self.options(),
        }


@dataclass(frozen=True)
class Planner:
    """Resolves configurations for a data set: what is given stays, all else is chosen."""

    dataset: Fingerprint
    network: str = "oss-net-c"
    """The network where none is named."""
    recipe: Recipe = "auto"
    budget_gib: float | None = None
    """Peak memory of one worker's training step that a configuration is fitted to."""
    workers: int = 1
    """The fewest workers that share a batch: the peak is that of the largest share."""
    most_workers: int | None = None
    """The most, where their number may change: a batch has a volume for each."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """Values by dotted path. Those of a network that has no such field are left out."""
    device: Device = field(default_factory=Device)
    estimator: MemoryEstimator = field(default_factory=PeakEstimator)

    @classmethod
    def around(cls, config: Config, dataset: Fingerprint, **changes: Any) -> "Planner":
        """A planner that chooses nothing: it keeps a configuration, but for the network that is named."""
        own = Config.preset(config.model.name, dataset).flatten()
        fixed = {
            path: value
            for path, value in config.flatten().items()
            if path not in ("model.kind", "model.name") and value != own.get(path)
        }
        base = cls(dataset=dataset, network=config.model.name, recipe="paper", given=fixed)
        return replace(base, **changes)

    @property
    def base(self) -> Config:
        """The configuration of its own network, whatever the memory it takes."""
        return replace(self, budget_gib=None).resolve().config

    def resolve(self, network: str | None = None, changes: Mapping[str, Any] | None = None) -> Resolved:
        """The configuration of a network.

        Args:
            changes: more that is given, by dotted path; `model` names the network. A text such as `x0.5` is a
                multiple of what would have been chosen.

        Returns:
            The configuration; where nothing fits the budget the smallest one that was found.

        Raises:
            UserError: an unknown network or path (names the nearest), or a value that does not fit.
        """
        values = dict(changes or {})
        network = values.pop(NETWORK, None) or network or self.network
        start = Config.preset(network, self.dataset)
        known = start.flatten()
        given = {path: value for path, value in self.given.items() if path in known}
        multiples = {path: factor for path, value in values.items() if (factor := _factor(value)) is not None}
        given |= {path: value for path, value in values.items() if path not in multiples}
        start = start.replace(given)
        facts = self._facts(given)
        choices = list[Choice]()
        config = start
        if self.recipe == "auto":
            for rule in RULES:
                if rule.path in given or not rule.applies(config):
                    continue
                value = rule(config, facts)
                config = config.replace({rule.path: value})
                choices.append(Choice(rule.topic, rule.path, value, rule.reason))
        config = _multiplied(config, multiples).resolve_for(self.dataset)
        # Once what would have been chosen is what would have been chosen for this budget.
        hard = {path for path, factor in multiples.items() if factor != 1 and path not in _ADAPTABLE}
        return self._fitted(
            Resolved(config, tuple(choices), given=tuple(given)), self._facts([*given, *hard])
        )

    def _facts(self, given: Mapping[str, Any] | Sequence[str]) -> Facts:
        most = self.most_workers or self.workers
        return Facts(self.dataset, self.device, self.workers, most, frozenset(given))

    def _fitted(self, resolved: Resolved, facts: Facts) -> Resolved:
        """The first configuration of the savings that fits the budget."""
        if self.budget_gib is None:
            return resolved
        before = resolved.config
        ladder = [before] if self.recipe == "paper" else list(rungs(before, facts))
        config, peak = self._first_fitting(ladder)
        if peak <= self.budget_gib:
            config, peak = self._restored(before, config, peak)
        was, now = before.flatten(), config.flatten()
        saved = tuple(
            Choice("saved", path, now[path], f"{_text(was[path])} -> {_text(now[path])}")
            for path in SAVED_PATHS
            if path in now and now[path] != was[path]
        )
        result = replace(resolved, config=config, saved=saved, peak_gib=peak, budget_gib=self.budget_gib)
        return result if result.fits else replace(result, obstacle=self._obstacle(before, facts))

    def _first_fitting(self, ladder: Sequence[Config]) -> tuple[Config, float]:
        """The first rung that fits and its peak; the last one where none does. Peaks fall along the rungs."""
        assert self.budget_gib is not None
        peak = self.estimator.gib(ladder[0])
        if peak <= self.budget_gib or len(ladder) == 1:
            return ladder[0], peak
        low, high, peak = 0, len(ladder) - 1, self.estimator.gib(ladder[-1])
        while peak <= self.budget_gib and high - low > 1:
            middle = (low + high) // 2
            tried = self.estimator.gib(ladder[middle])
            if tried <= self.budget_gib:
                high, peak = middle, tried
            else:
                low = middle
        return ladder[high], peak

    def _restored(self, before: Config, config: Config, peak: float) -> tuple[Config, float]:
        """The configuration without the savings that later ones made needless; the costliest go first."""
        assert self.budget_gib is not None
        was, now = before.flatten(), config.flatten()
        saved = [path for path in SAVED_PATHS if path in now and now[path] != was[path]]
        for path in reversed(saved[:-1]):
            trial = config.replace({path: was[path]})
            tried = self.estimator.gib(trial)
            if tried <= self.budget_gib:
                config, peak = trial, tried
        return config, peak

    def _obstacle(self, config: Config, facts: Facts) -> str:
        """The given field that would have to be free for the budget, or that none would help."""
        assert self.budget_gib is not None
        fields = [path for path in SAVED_PATHS if path in facts.given]
        for path in fields if self.recipe == "auto" else ():
            *_, smallest = rungs(config, replace(facts, given=facts.given - {path}))
            if self.estimator.gib(smallest) <= self.budget_gib:
                return f"leave out {path}, which is given as {_text(config.flatten()[path])}"
        return "raise it, or choose another network"


def check_auto(paths: Sequence[str], given: Mapping[str, Any], recipe: Recipe) -> None:
    """Reject options that are `auto` beside others that say otherwise.

    Raises:
        UserError: names the option.
    """
    for path in paths:
        option = f"--{path.replace('_', '-')} auto"
        if path not in AUTO_PATHS:
            expected = f"one of the fields that a recipe chooses: {', '.join(sorted(AUTO_PATHS))}"
            raise UserError(option, expected=expected, found=path)
        if path in given:
            found = f"{_text(given[path])} as well"
            raise UserError(option, expected="one value", found=found, remedy="leave out one of them")
        if recipe == "paper":
            raise UserError(option, expected="--recipe auto", found="--recipe paper", remedy="leave out one")


def _factor(value: Any) -> float | None:
    """The number of a text such as `x0.5`; None for anything else."""
    if not isinstance(value, str) or not value.startswith("x"):
        return None
    try:
        return float(value[1:])
    except ValueError:
        return None


def _multiplied(config: Config, factors: Mapping[str, float]) -> Config:
    if not factors:
        return config
    flat = config.flatten()
    changes = dict[str, Any]()
    for path, factor in factors.items():
        if path in flat and not _is_number(flat[path]):
            raise UserError(
                path, expected="a field with numbers, of which there are multiples", found=repr(flat[path])
            )
        changes[path] = _times(flat.get(path), factor)
    return config.replace(changes)


def _is_number(value: Any) -> bool:
    values = value if isinstance(value, list | tuple) and value else [value]
    return all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)


def _times(value: Any, factor: float) -> Any:
    if isinstance(value, list | tuple):
        return [_times(each, factor) for each in value]
    return max(round(value * factor), 1) if isinstance(value, int) else (value or 0) * factor


def _round_up(gib: float) -> float:
    """A number of two digits that is not below."""
    step = 10 ** (len(f"{int(gib)}") - 2) if gib >= 1 else 0.001 if gib < 0.1 else 0.01
    return ceil(gib / step) * step


def _name(path: str) -> str:
    return path.rpartition(".")[2].replace("_", " ")


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _option(path: str, value: Any) -> str:
    name = f"--{path.replace('_', '-')}"
    if value is None or value is False:  # as without the option
        return ""
    return name if value is True else f"{name} {_text(value)}"
