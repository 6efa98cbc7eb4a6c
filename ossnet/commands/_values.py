"""Values of options that are more than a number or a path."""

import difflib
import re
from importlib.resources import files
from pathlib import Path

from ossnet.errors import UserError

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(duration: str) -> float:
    """`90`, `90s`, `20m`, `1.5h` or `2d` in seconds.

    Raises:
        UserError: anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", duration.strip())
    if match is None:
        raise UserError(
            f"duration {duration!r}", expected="a number with s, m, h or d after it", remedy="write it as 20m"
        )
    return float(match[1]) * _SECONDS[match[2] or "s"]


def space_file(space: str) -> Path:
    """The file of a search space: a path, or the name of a space that comes with ossnet.

    Raises:
        UserError: neither a path nor one of those names (names the nearest).
    """
    path, shipped = Path(space), _shipped_spaces()
    if path.suffix == ".py" or path.is_file():
        return path
    if space in shipped:
        return shipped[space]
    near = difflib.get_close_matches(space, shipped, n=1, cutoff=0.0)
    raise UserError(
        f"--space {space}",
        expected=f"a Python file, or one of {', '.join(sorted(shipped))}",
        remedy=f"did you mean {near[0]}?" if near else None,
    )


def _shipped_spaces() -> dict[str, Path]:
    """The spaces that come with ossnet: in the package where it is installed, next to it in a checkout."""
    package = Path(str(files("ossnet")))
    for folder in (package / "search_spaces", package.parent / "search_spaces"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.py"))}
    return {}
