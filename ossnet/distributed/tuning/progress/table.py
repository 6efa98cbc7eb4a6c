"""The table of the running trials, which a terminal shows while a search runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ossnet.output.duration import format_duration

if TYPE_CHECKING:
    from rich.console import Group

_COLUMNS = ("trial", "network", "what varies", "progress", "Dice", "best", "GiB", "time left")
_WORDS = 3  # columns of words; the others are numbers


@dataclass(frozen=True)
class TrialRow:
    """A running trial."""

    number: int
    network: str
    params: str
    """What the space decided for it."""
    progress: str
    """Its epoch, or the share of its time."""
    dice: float | None = None
    """The last one."""
    best: float | None = None
    memory_gib: float | None = None
    left_s: float | None = None

    def cells(self) -> tuple[str, ...]:
        """The texts of its columns."""
        return (
            f"{self.number:03d}",
            self.network,
            self.params,
            self.progress,
            _number(self.dice, ".4f"),
            _number(self.best, ".4f"),
            _number(self.memory_gib, ".3f"),
            "" if self.left_s is None else format_duration(self.left_s),
        )


def trial_table(rows: Sequence[TrialRow], *, title: str, footer: Sequence[str]) -> "Group":
    """The table with a line above it and lines below.

    Args:
        footer: what was refused and why; empty ones are left out.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for position, column in enumerate(_COLUMNS):
        words = position < _WORDS
        table.add_column(
            column,
            justify="left" if words else "right",
            no_wrap=column != "what varies",
            overflow="ellipsis",
            ratio=1 if column == "what varies" else None,
        )
    for row in rows:
        table.add_row(*map(Text, row.cells()))
    lines = [Text(line, style="dim") for line in footer if line]
    return Group(Text(title, style="bold"), table, *lines)


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
