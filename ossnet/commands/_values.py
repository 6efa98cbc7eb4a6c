"""Values of options that are more than a number or a path, and what is made of them."""

import difflib
import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ossnet import open_store
from ossnet.commands._parse import Dotted
from ossnet.errors import UserError

Recipe = Literal["auto", "paper"]  # as planning's own, whose import takes longer than `--help` may
Resume = tuple[Literal["auto"], ...] | None
"""Of the option `--resume`: None where it is not given, and empty without `auto` behind it."""

if TYPE_CHECKING:
    from ossnet.config import Config
    from ossnet.data import Store
    from ossnet.output.waiting import Patience
    from ossnet.planning.configure.planner import Planner

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

    Examples:
        >>> parse_duration("1h30m")
        5400.0

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


def patience(grace: str, wait_at_most: str | None) -> "Patience":
    """The patience of `--grace` and `--wait-at-most`.

    Raises:
        UserError: one of them is no duration.
    """
    from ossnet.output.waiting import Patience

    return Patience(parse_duration(grace), None if wait_at_most is None else parse_duration(wait_at_most))


def resumes(resume: Resume, output: Path, started: Callable[[], bool]) -> bool:
    """Whether a job continues what is in its output.

    Args:
        started: tells whether there is anything; asked for `--resume auto` only.

    Raises:
        UserError: the output cannot be a folder.
    """
    from ossnet.output.atomic_write import writing

    if resume is None or "auto" not in resume:
        return resume is not None
    with writing(output, "folder"):
        return started()


def check_counts(**counts: int | None) -> None:
    """Reject numbers below 1 of options, by their names with underscores; None is one that was not given.

    Raises:
        UserError: names the option.
    """
    for name, count in counts.items():
        if count is not None and count < 1:
            raise UserError(f"--{name.replace('_', '-')}", expected="at least 1", found=str(count))


def parse_workers(workers: str) -> int | tuple[int, int]:
    """`2` as a number, and `2-8` as the fewest and the most.

    Examples:
        >>> parse_workers("2-8")
        (2, 8)

    Raises:
        UserError: anything else, or a range that begins at 0 or descends.
    """
    match = re.fullmatch(r"(\d+)(?:-(\d+))?", workers.strip())
    low, high = (int(each) for each in (match[1], match[2] or match[1])) if match else (0, 0)
    if not 1 <= low <= high:
        raise UserError(
            "--workers",
            expected="a number from 1, or the fewest and the most, as in 2-8",
            found=workers,
            remedy=f"write {high}-{low}" if 0 < high < low else None,
        )
    return low if low == high else (low, high)


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


def make_planner(
    store: "Store",
    data: Path | None,
    *,
    model: str,
    recipe: Recipe,
    dotted: Dotted,
    more: Mapping[str, Any] | None = None,
    **changes: Any,
) -> "Planner":
    """The planner of a job's options.

    Args:
        data: `--data`; without it the store is a phantom's.
        more: what other options than dotted ones give, by path; None for what they do not.
        changes: other fields of the planner.

    Raises:
        UserError: an option is `auto` beside one that says otherwise.
    """
    from dataclasses import replace

    from ossnet.distributed.demo import make_planner as planner_of
    from ossnet.planning.configure.planner import check_auto

    check_auto(dotted.auto, dotted.given, recipe)
    given = {path: value for path, value in (more or {}).items() if value is not None}
    planner = planner_of(store, data, model, {**dotted.given, **given}, recipe)
    return replace(planner, **changes)


def budget_gib(memory: str | None) -> float | None:
    """`--memory-budget` or `--inference-budget` in GiB.

    Raises:
        UserError: it is no size.
    """
    from ossnet.memory.parse import parse_memory
    from ossnet.memory.peak import GIB

    return None if memory is None else parse_memory(memory) / GIB


def check_values(options: object) -> None:
    """Reject what cannot be read of the options that are times, sizes, workers or a space.

    Raises:
        UserError: names the value, and how it is written.
    """
    for name, read in _READERS.items():
        value = getattr(options, name, None)
        if value is not None:
            read(value)


_READERS: Mapping[str, Callable[[str], object]] = {
    "grace": parse_duration,
    "inference_budget": budget_gib,
    "max_time": parse_duration,
    "memory_budget": budget_gib,
    "seconds_per_case": parse_duration,
    "space": space_file,
    "wait_at_most": parse_duration,
    "workers": parse_workers,
}


def preset_config(model: str, data: Path | None) -> "Config":
    """A network's configuration for the store of `--data`, or for the phantom, which is made for it."""
    from ossnet.config import Config

    return Config.preset(model, open_store(data) if data else _phantom())


def _phantom() -> "Store":
    from ossnet.output.progress import progress

    with progress("loading libraries"):
        from ossnet.distributed import demo

    return demo.open_store(None)
