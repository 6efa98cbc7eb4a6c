"""The result of a benchmark as JSON, with where and how it was measured."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from ossnet import config_tree as tree
from ossnet.errors import UserError
from ossnet.output.atomic_write import atomic_write

Row = TypeVar("Row")


@dataclass(frozen=True)
class BenchmarkResult(ABC):
    """The base of the results of benchmarks: dataclasses of plain values."""

    @abstractmethod
    def summary(self) -> dict[str, object]:
        """Human-readable rows."""

    def write(self, path: Path) -> None:
        """Write as JSON, atomically."""
        atomic_write(path, json.dumps(tree.to_dict(self), indent=2))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            UserError: no JSON, or not of this form.
        """
        try:
            return tree.from_dict(cls, json.loads(path.read_text()))
        except json.JSONDecodeError as error:
            raise UserError(path, expected="JSON", found=str(error)) from error


def by_name(rows: Iterable[Row], *, key: Callable[[Row], str]) -> dict[str, list[Row]]:
    """Rows in groups of one name each, in the order of their first."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return groups
