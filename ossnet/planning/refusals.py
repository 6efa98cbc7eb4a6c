"""What a limit keeps from being trained: how many of each network, and the option that would let one be."""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from typing import Literal, NamedTuple, Self

Constraint = Literal["memory", "inference", "seconds"]


class _Limit(NamedTuple):
    least: str  # what the least that was found is called, with its verb
    unit: str
    option: str
    option_unit: str


_LIMITS: dict[Constraint, _Limit] = {
    "memory": _Limit("the smallest takes", " GiB", "--memory-budget", "GiB"),
    "inference": _Limit("the smallest takes", " GiB in inference", "--inference-budget", "GiB"),
    "seconds": _Limit("the fastest took", " s a case", "--seconds-per-case", "s"),
}
_THREE_DIGITS = Context(prec=3, rounding=ROUND_CEILING)


@dataclass(frozen=True)
class Refusal:
    """What a limit kept from starting, or from continuing, of one network.

    Examples:
        >>> print(Refusal("unet-3d", 2, 1.2512))
        2 of unet-3d (the smallest takes 1.25 GiB: it needs --memory-budget 1.26GiB)
    """

    network: str
    trials: int
    least: float
    """The smallest predicted peak among them in GiB, or the shortest time in seconds."""
    constraint: Constraint = "memory"
    """The limit."""

    @classmethod
    def collect(cls, refused: Iterable[tuple[str, Constraint, float]]) -> tuple[Self, ...]:
        """One for each network and limit, most of them first.

        Args:
            refused: the network, the limit that it passed, and by which peak in GiB or time in seconds.
        """
        found = dict[tuple[str, Constraint], list[float]]()
        for network, constraint, value in refused:
            found.setdefault((network, constraint), []).append(value)
        refusals = [cls(network, len(each), min(each), name) for (network, name), each in found.items()]
        return tuple(sorted(refusals, key=lambda each: -each.trials))

    @property
    def least_text(self) -> str:
        """The least with its unit."""
        return f"{self.least:.3g}{_LIMITS[self.constraint].unit}"

    @property
    def option(self) -> str:
        """The option by which the least of them would be within the limit."""
        limit = _LIMITS[self.constraint]
        return f"{limit.option} {_THREE_DIGITS.create_decimal(Decimal(self.least)):f}{limit.option_unit}"

    def __str__(self) -> str:
        least = _LIMITS[self.constraint].least
        return f"{self.trials} of {self.network} ({least} {self.least_text}: it needs {self.option})"
