"""The memory that a GPU needs beyond a predicted peak: data, which `make gpu` fits to measured peaks."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from math import ceil
from typing import NamedTuple

from ossnet import config_tree as tree

GB = 10**9
SAFETY = 0.05
"""Part of what was measured that a fitted margin adds to it: drivers and allocators change."""
_FACTOR_STEP, _FIXED_STEP = 0.01, 10**7


@dataclass(frozen=True)
class MemoryOverhead:
    """The memory that a GPU needs beyond living tensors: its context, kernels' workspace, the allocator's
    fragments."""

    factor: float
    """Multiplies the peak."""
    fixed: int
    """Bytes that are added."""
    source: str
    """Where the two come from, for people."""

    def needed(self, allocated: int) -> int:
        """Bytes of a GPU that suffice for a peak of `allocated` bytes of living tensors."""
        return round(allocated * self.factor) + self.fixed

    def to_json(self) -> str:
        """The text of `margin.json`."""
        return json.dumps(tree.to_dict(self), indent=2) + "\n"

    def __str__(self) -> str:
        return f"{self.factor:g} x peak + {self.fixed / GB:g} GB"


class NeededMemory(NamedTuple):
    """A predicted peak, and the bytes of a GPU that its step took."""

    predicted: int
    """Bytes of living tensors."""
    needed: int
    """Bytes that the allocator reserved, and those outside of it."""


def read_margin() -> MemoryOverhead:
    """The margin of this version, from `margin.json` in this package.

    Raises:
        UserError: the file is not of this form.
    """
    text = (files("ossnet.planning") / "margin.json").read_text()
    return tree.from_dict(MemoryOverhead, json.loads(text))


def fit_margin(peaks: Iterable[NeededMemory], *, source: str, safety: float = SAFETY) -> MemoryOverhead:
    """The factor (at least 1) and the constant that cover every peak and add least to them, relatively.

    Args:
        peaks: one or more.
        source: where they were measured.
        safety: part of every need that is added to it first.
    """
    from scipy.optimize import linprog

    bounds = [(peak.predicted / GB, (1 + safety) * peak.needed / GB) for peak in peaks]
    relative = [(predicted / needed, 1 / needed) for predicted, needed in bounds]
    found = linprog(
        [sum(each) for each in zip(*relative, strict=True)],
        A_ub=[(-predicted, -1) for predicted, _ in bounds],
        b_ub=[-needed for _, needed in bounds],
        bounds=[(1, None), (0, None)],
    )
    factor, fixed = found.x
    return MemoryOverhead(
        factor=round(ceil(factor / _FACTOR_STEP - 1e-6) * _FACTOR_STEP, 2),
        fixed=ceil(fixed * GB / _FIXED_STEP - 1e-6) * _FIXED_STEP,
        source=source,
    )


MARGIN = read_margin()
