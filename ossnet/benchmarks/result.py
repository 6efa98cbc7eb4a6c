"""The result of a benchmark as JSON, with where and how it was measured."""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ossnet import config_tree as tree
from ossnet.errors import UserError
from ossnet.output.atomic_write import atomic_write


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
