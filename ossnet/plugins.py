"""Extension by installed packages: entry points, loaded on first use. A broken one disables only itself.

A package names what it adds in its `pyproject.toml`:

    [project.entry-points."ossnet.networks"]
    my-network = "my_package.my_network:MyConfig"

Each group (`ossnet.networks`, `ossnet.losses`, `ossnet.layouts`, `ossnet.transforms`) is a `Group` next to
the built-in things of its kind, which says what a plug-in must be; see docs/plugins.md. Nothing is loaded
until a group is first read, and then once a process.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, EntryPoint, distributions
from typing import Any, Generic, TypeVar

Plugin = TypeVar("Plugin")

logger = logging.getLogger(__name__)

_PREFIX = "ossnet."


@dataclass(frozen=True)
class Group(Generic[Plugin]):
    """The entry points of one group, such as `ossnet.networks`."""

    name: str
    check: Callable[[str, object], Plugin]
    """Turns a loaded object into the plug-in, given the entry point's name; raises a ValueError of the form
    `expected ..., found ...` where the object is something else."""
    built_in: Collection[str]
    """The package's own objects under names that no plug-in may take, as `claims` gives them."""
    claims: Callable[[str, Plugin], Collection[str]] = lambda name, _: (name,)
    """Everything that a plug-in adds and that must be there once, such as `network my-network`."""

    def __hash__(self) -> int:
        return hash(self.name)

    def plugins(self) -> Mapping[str, Plugin]:
        """The plug-ins that work, by the names of their entry points; each fault is logged in one line."""
        return {name: plugin for name, (_, plugin) in _load(self).items()}

    def origin(self, name: str) -> str:
        """The package and the entry point of a plug-in that works, for messages about what it does later."""
        return str(_load(self)[name][0])


@dataclass(frozen=True)
class _Entry:
    """An entry point with the package that declares it."""

    package: str
    point: EntryPoint

    def __str__(self) -> str:
        return f"package {self.package}, entry point {self.point.name} of {self.point.group}"

    def reject(self, reason: str) -> None:
        logger.warning(f"{self}: {reason}; it is left out: repair or uninstall the package")


def clear_cache() -> None:
    """Look for plug-ins anew, as after a package was installed into a running process."""
    _load.cache_clear()
    _entries.cache_clear()


@cache
def _load(group: Group[Any]) -> Mapping[str, tuple[_Entry, Any]]:
    loaded = [(entry, plugin) for entry in _entries() for plugin in _load_one(entry, group)]
    claims = [set(group.claims(entry.point.name, plugin)) for entry, plugin in loaded]
    free: list[int] = []
    for index, (entry, _) in enumerate(loaded):
        taken = sorted(claims[index] & set(group.built_in))
        if taken:
            entry.reject(f"expected names of its own, found {', '.join(taken)}, which ossnet has itself")
        else:
            free.append(index)
    plugins = {}
    for index in free:
        entry = loaded[index][0]
        rivals = [other for other in free if other != index and claims[other] & claims[index]]
        if rivals:
            taken = sorted(claims[index].intersection(*(claims[other] for other in rivals[:1])))
            others = " and ".join(str(loaded[other][0]) for other in rivals)
            entry.reject(f"expected names of its own, found {', '.join(taken)} in {others} too")
        else:
            plugins[entry.point.name] = loaded[index]
    return plugins


def _load_one(entry: _Entry, group: Group[Plugin]) -> Iterable[Plugin]:
    """The plug-in, or nothing but a line in the log: other people's code fails in any way."""
    if entry.point.group != group.name:
        return
    try:
        value = entry.point.load()
    except (Exception, SystemExit) as error:
        entry.reject(f"expected {entry.point.value} to load, found {_line(error)}")
        return
    try:
        plugin = group.check(entry.point.name, value)
    except ValueError as error:
        entry.reject(" ".join(str(error).split()))
        return
    except Exception as error:
        entry.reject(f"expected {entry.point.value} to work, found {_line(error)}")
        return
    yield plugin


@cache
def _entries() -> tuple[_Entry, ...]:
    """The entry points of our groups in all packages on the path, the first of each name as in an import."""
    entries: dict[str, list[_Entry]] = {}
    for distribution in distributions():
        if not _may_extend(distribution):
            continue
        name, version = _identity(distribution)
        if name.lower() in entries:
            continue
        package = f"{name} {version}"
        try:
            points = [point for point in distribution.entry_points if point.group.startswith(_PREFIX)]
        except Exception as error:
            logger.warning(
                f"package {package}: expected entry points, found {_line(error)}; it is left out: "
                "repair or uninstall the package"
            )
            points = []
        entries[name.lower()] = [_Entry(package, point) for point in points]
    every = [entry for found in entries.values() for entry in found]
    return tuple(sorted(every, key=lambda entry: (entry.point.group, entry.point.name, entry.package)))


def _may_extend(distribution: Distribution) -> bool:
    """Whether a package's list of entry points names a group of ours; parsing all of them takes longer."""
    try:
        return _PREFIX in (distribution.read_text("entry_points.txt") or "")
    except Exception:  # unreadable: parsing it says why
        return True


def _identity(distribution: Distribution) -> tuple[str, str]:
    """Name and version; a damaged package has none, and is then called after its folder."""
    try:
        name, version = distribution.metadata["Name"], distribution.version
    except Exception:
        name, version = "", ""
    folder = getattr(distribution, "_path", None)
    return str(name or getattr(folder, "name", "unknown")), str(version or "of unknown version")


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
