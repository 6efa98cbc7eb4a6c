"""Trees of frozen dataclasses to and from plain dictionaries and dotted paths; unknown names are rejected."""

import dataclasses
import difflib
import types
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ossnet.errors import UserError

Tree = TypeVar("Tree")


def to_dict(tree: Any) -> Any:
    """Plain JSON-able values of a dataclass; a member of a union keeps its `kind`, which identifies it."""
    if tree is None or isinstance(tree, str | int | float):  # most are
        return tree
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return {field.name: to_dict(getattr(tree, field.name)) for field in dataclasses.fields(tree)}
    if isinstance(tree, list | tuple):
        return [to_dict(value) for value in tree]
    if isinstance(tree, Mapping):
        return {str(key): to_dict(value) for key, value in tree.items()}
    return str(tree) if isinstance(tree, Path) else tree


def from_dict(kind: type[Tree], values: Any, path: str = "") -> Tree:
    """Rebuild a dataclass.

    Raises:
        UserError: an unknown key (names the nearest known one), or a value of the wrong type.
    """
    return _convert(kind, values, path)


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """`{"model.decoder_width": 512, ...}`: every leaf under its dotted path; sequences stay whole."""
    return _leaves(to_dict(tree), prefix)


def defaults(tree: Any, prefix: str = "") -> dict[str, Any]:
    """The default of every leaf that has one under its dotted path; in a union, those of its member."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(tree):
        value, path = getattr(tree, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            found.update(defaults(value, f"{path}."))
        elif field.default is not dataclasses.MISSING:
            found[path] = to_dict(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            found.update(_leaves({path: to_dict(field.default_factory())}, ""))
    return found


def replace(tree: Tree, changes: Mapping[str, Any]) -> Tree:
    """A copy with the leaves at the given dotted paths changed.

    Raises:
        UserError: an unknown path (names the nearest known one), or a value of the wrong type.
    """
    values = to_dict(tree)
    known = _leaves(values, "")
    for path, value in changes.items():
        if path not in known:
            raise unknown_name("configuration", "path", path, known)
        *parents, leaf = path.split(".")
        branch = values
        for parent in parents:
            branch = branch[parent]
        branch[leaf] = to_dict(value)
    return from_dict(type(tree), values)


def _leaves(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat.update(_leaves(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def unknown_name(
    where: str | Path, what: str, found: str, known: Iterable[str], *, remedy: str | None = None
) -> UserError:
    """The error for a name that is not among the known ones; it suggests the nearest of them.

    Args:
        where: the file, option or field with the name.
        what: the kind of name, as in "network".
        remedy: what else may help.
    """
    near = difflib.get_close_matches(found, sorted(known), n=1, cutoff=0.0)
    remedies = [*(f"did you mean {name!r}?" for name in near), *([remedy] if remedy else [])]
    expected = f"a known {what}"
    return UserError(where, expected=expected, found=repr(found), remedy=" ".join(remedies) or None)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _convert(kind: Any, value: Any, path: str) -> Any:
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return _convert_union(get_args(kind), value, path)
    if dataclasses.is_dataclass(kind):
        return _convert_dataclass(kind, value, path)
    if origin is Literal:
        return _expect(value in get_args(kind), value, path, f"one of {', '.join(map(str, get_args(kind)))}")
    if origin is tuple:
        return _convert_tuple(get_args(kind), value, path)
    if origin is dict:
        _expect(isinstance(value, Mapping), value, path, "a mapping")
        _, inner = get_args(kind)
        return {key: _convert(inner, each, f"{path}.{key}") for key, each in value.items()}
    return _convert_scalar(kind, value, path)


def _convert_dataclass(kind: Any, value: Any, path: str) -> Any:
    _expect(isinstance(value, Mapping), value, path or kind.__name__, "a mapping")
    if "kinds" in vars(kind):
        kind = _concrete(kind.kinds(), str(value.get("kind")), _join(path, "kind"))
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for name in value:
        if name not in fields:
            known = [_join(path, field) for field in fields]
            raise unknown_name("configuration", "key", _join(path, name), known)
    hints = _hints(kind)
    converted = {name: _convert(hints[name], each, _join(path, name)) for name, each in value.items()}
    try:
        return kind(**{name: each for name, each in converted.items() if fields[name].init})
    except UserError as error:
        where = (
            _join(path, error.where) if error.where in fields else f"{path or kind.__name__}: {error.where}"
        )
        raise UserError(where, expected=error.expected, found=error.found, remedy=error.remedy) from error
    except (TypeError, ValueError) as error:  # a package's class may raise one of its own
        raise UserError(f"{path or kind.__name__}: {error}") from error


def _concrete(kinds: Mapping[str, Any], name: str, path: str) -> Any:
    """The class of this kind: a base class lists its kinds by `kinds()`, as packages may add some."""
    if name not in kinds:
        raise UserError(
            path,
            expected=f"one of {', '.join(kinds)}",
            found=repr(name),
            remedy="install the package that brings it",
        )
    return kinds[name]


def _convert_union(members: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and type(None) in members:
        return None
    classes = [member for member in members if dataclasses.is_dataclass(member)]
    if classes and isinstance(value, Mapping):
        kinds = {str(getattr(member, "kind", "")): member for member in classes}
        if str(value.get("kind")) not in kinds and len(classes) > 1:
            raise unknown_name(_join(path, "kind"), "kind", str(value.get("kind")), kinds)
        return _convert(kinds.get(str(value.get("kind")), classes[0]), value, path)
    failure: UserError | None = None
    for member in members:
        try:
            return _convert(member, value, path)
        except UserError as error:
            failure = failure or error
    assert failure is not None
    raise failure


def _convert_tuple(members: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    _expect(isinstance(value, list | tuple), value, path, "a list")
    if members[-1] is Ellipsis:
        members = (members[0],) * len(value)
    _expect(len(value) == len(members), value, path, f"{len(members)} values")
    return tuple(_convert(member, each, path) for member, each in zip(members, value, strict=True))


def _convert_scalar(kind: Any, value: Any, path: str) -> Any:
    if kind is Any:
        return value
    if kind is Path:
        return Path(value)
    if kind is float:
        _expect(isinstance(value, int | float) and not isinstance(value, bool), value, path, "a number")
        return float(value)
    if kind is int:
        whole = isinstance(value, int | float) and not isinstance(value, bool) and int(value) == value
        _expect(whole, value, path, "a whole number")
        return int(value)
    if kind is type(None):
        return _expect(value is None, value, path, "nothing")
    return _expect(isinstance(value, kind), value, path, f"a {kind.__name__}")


def _expect(holds: bool, value: Any, path: str, expected: str) -> Any:
    if not holds:
        raise UserError(path, expected=expected, found=repr(value))
    return value


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
