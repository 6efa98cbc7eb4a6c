"""Values of options that are more than a number or a path."""

import difflib
import re
from importlib.resources import files
from pathlib import Path

from ossnet.errors import UserError

_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_UNITS = {  # every way to write a unit, and its letter in `_SECONDS`
    name: name[0]
    for names in (
        ("d", "day", "days"),
        ("h", "hr", "hrs", "hour", "hours"),
        ("m", "min", "mins", "minute", "minutes"),
        ("s", "sec", "secs", "second", "seconds"),
    )
    for name in names
}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)\s*")


def parse_duration(duration: str) -> float:
    """`90s`, `2 min`, `1h30m` or `1.5 days` in seconds.

    Raises:
        UserError: anything else: a number without a unit, an unknown unit, units that do not descend, or no
            time at all.
    """
    text = duration.strip().lower()
    parts = [(float(amount), _UNITS.get(unit)) for amount, unit in _PART.findall(text)]
    units = [unit for _, unit in parts if unit is not None]
    descending = sorted(set(units), key=list(_SECONDS).index) == units
    known = len(units) == len(parts) and descending and not _PART.sub("", text)
    seconds = sum(amount * _SECONDS[unit] for amount, unit in parts if unit is not None)
    if not (known and seconds > 0):
        raise UserError(
            f"duration {duration!r}",
            expected="numbers above 0 with units, as in 90s, 20m or 1h30m",
            remedy=f"write {text}m for minutes or {text}s for seconds" if _is_number(text) else None,
        )
    return seconds


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)?", text) is not None


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
