"""What to compare. Light: no torch here, so that a command line loads fast."""

import re
from dataclasses import dataclass
from typing import Literal

from ossnet.errors import UserError
from ossnet.models import PRESETS
from ossnet.tree import unknown

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class ModelsSettings:
    """Which networks, over which volumes, how."""

    networks: tuple[str, ...] = tuple(PRESETS)
    """Presets to compare."""
    shapes: tuple[str, ...] = ("32x32x32", "64x64x64", "96x96x96")
    """Sizes of a volume in voxels; each is rounded up to what a network can halve."""
    dataset: Literal["brats", "lits", "none"] = "none"
    """Networks as the paper sizes them for a data set (brats: 256x256x160), or for each shape."""
    points: int = 1024
    """Points a volume and step of occupancy networks (the paper: 16384)."""
    batch_size: int = 1
    """Volumes a step."""
    precision: Literal["float32", "bf16"] = "float32"
    """bf16: matrix products and convolutions in bfloat16."""
    compile: bool = False
    """Have torch's compiler make the arithmetic between matrix products, as in training."""
    repeats: int = 3
    """Timed steps after one of warm-up; the fastest is reported, and the median step beside it."""
    threads: int | None = None
    """Threads of torch on the CPU; by default as many as torch takes."""
    device: str | None = None
    """Where to measure, as torch names it; by default a GPU if there is one."""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured, naming the option.

        Raises:
            UserError: an unknown network (names the nearest), a shape that is none, or a number below 1.
        """
        for option in ("networks", "shapes"):
            if not getattr(self, option):
                msg = f"{option}: expected one or more, found none; leave the option out for the default"
                raise UserError(msg)
        for name in self.networks:
            if name not in PRESETS:
                raise UserError(unknown("network", name, PRESETS))
        for option in ("points", "batch_size", "repeats", "threads"):
            value = getattr(self, option)
            if value is not None and value < 1:
                msg = f"{option.replace('_', '-')}: expected at least 1, found {value}"
                raise UserError(msg)
        for text in self.shapes:
            parse_shape(text)


def parse_shape(text: str) -> Shape:
    """`256x256x160` as X, Y, Z in voxels.

    Raises:
        UserError: not three positive whole numbers.
    """
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text)
    shape = tuple(map(int, match.groups())) if match else (0, 0, 0)
    if min(shape) < 1:
        msg = f"shape {text!r}: expected three positive edges in voxels, as in 64x64x64"
        raise UserError(msg)
    return shape[0], shape[1], shape[2]


def shape_name(shape: Shape) -> str:
    """`(256, 256, 160)` as `256x256x160`."""
    return "x".join(map(str, shape))
