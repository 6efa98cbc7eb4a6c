"""Tables in the terminal."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

_WIDTH = 180  # where the output is no terminal


def print_table(columns: Sequence[str], rows: "Iterable[Iterable[str | Text]]", *, left: int = 1) -> None:
    """Print rows under their columns; the first `left` are words, the others numbers."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for position, column in enumerate(columns):
        table.add_column(column, justify="left" if position < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console()
    (console if console.is_terminal else Console(width=_WIDTH)).print(table)
