"""The options of a command line, read from dataclasses, and the text of `--help`."""

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

WIDTH = 110
"""Columns of the help, whatever the terminal's."""
_LEFT = 26  # columns of an option's name and value; a longer one has a line of its own
_WORDS = {str: "TEXT", int: "INT", float: "FLOAT", Path: "PATH"}


@dataclasses.dataclass(frozen=True)
class Option:
    """An option of a job."""

    name: str
    """Its name as typed, with the dashes."""
    value: str
    """The kind of value that follows it; empty for a switch."""
    choices: tuple[str, ...]
    """The values it can have, where they are few."""
    default: str
    """The value it has when it is not given; empty where another part of the program chooses one."""
    text: str
    """Its description."""


def list_options(kind: type, defaults: object = None, prefix: str = "") -> Iterator[Option]:
    """The options that tyro makes of a dataclass, its own before those of classes that it derives from.

    Args:
        kind: the dataclass.
        defaults: an instance of it whose values are the defaults, instead of the class's own.
        prefix: of the options' names, with its dot.
    """
    hints, texts = get_type_hints(kind), _field_texts(kind)
    own = inspect.get_annotations(kind)
    for field in sorted(dataclasses.fields(kind), key=lambda field: field.name not in own):
        if not field.init:
            continue
        value = _default(field) if defaults is None else getattr(defaults, field.name)
        if dataclasses.is_dataclass(value):
            yield from list_options(type(value), value, f"{prefix}{field.name}.")
            continue
        hint, name = hints[field.name], field.name
        switch = hint is bool
        yield Option(
            name=f"--{prefix}{'no_' * (switch and bool(value))}{name}".replace("_", "-"),
            value="" if switch else _value(hint),
            choices=_choices(hint),
            default="" if switch else _shown(value),
            text=texts.get(name, ""),
        )


def format_help(usage: str, text: str, options: Iterable[Option], *notes: str) -> str:
    """A page of help: how the job is called, what it does, its options, and notes below them."""
    parts = [f"usage: {usage}", _wrapped(text), "options:", *map(_format_option, options)]
    head = "\n\n".join(parts[:2])
    return "\n".join([head, "", *parts[2:], *(f"\n{note}" for note in notes)])


def format_rows(rows: Iterable[tuple[str, str]]) -> str:
    """Names and what they mean, in two columns, the first as wide as the longest name."""
    table = list(rows)
    width = max(len(name) for name, _ in table)
    return "\n".join(_two_columns(name, text, width) for name, text in table)


def _format_option(option: Option) -> str:
    facts = [", ".join(option.choices)] if option.choices else []
    facts += [f"default: {option.default}"] if option.default else []
    text = f"{option.text} ({'; '.join(facts)})" if facts else option.text
    return _two_columns(f"{option.name} {option.value}".strip(), text)


def _two_columns(left: str, text: str, width: int = _LEFT) -> str:
    lines = textwrap.wrap(text, WIDTH - width - 4, break_on_hyphens=False) or [""]
    indent = "\n" + " " * (width + 4)
    first = f"  {left:<{width}}  " if len(left) <= width else f"  {left}{indent}"
    return (first + indent.join(lines)).rstrip()


def _wrapped(text: str) -> str:
    return "\n\n".join(textwrap.fill(" ".join(part.split()), WIDTH) for part in text.strip().split("\n\n"))


@cache
def _field_texts(kind: type) -> dict[str, str]:
    """The strings below the fields of a dataclass and of those it derives from."""
    texts: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(each):
            continue
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(each))).body
        except (OSError, TypeError):  # a class without a file, as one made on the fly
            continue
        assert isinstance(tree, ast.ClassDef)
        for before, after in zip(tree.body, tree.body[1:], strict=False):
            match before, after:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    texts[name] = " ".join(text.split())
    return texts


def _default(field: "dataclasses.Field[Any]") -> object:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _value(hint: Any) -> str:
    origin, members = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return "|".join(dict.fromkeys(_value(member) for member in members if member is not NoneType))
    if origin is Literal:
        return "NAME" if isinstance(members[0], str) else "INT"
    if origin is tuple:
        if members[-1] is Ellipsis:
            words = get_args(members[0])
            if len(words) == 1:  # a word that may follow
                return f"[{words[0]}]"
            return f"{_value(members[0])} ..."
        return " ".join(map(_value, members))
    return _WORDS.get(hint, "VALUE")


def _choices(hint: Any) -> tuple[str, ...]:
    if get_origin(hint) is Literal:
        words = get_args(hint)
        return tuple(map(str, words)) if len(words) > 1 else ()
    return tuple(dict.fromkeys(choice for member in get_args(hint) for choice in _choices(member)))


def _shown(value: object) -> str:
    if isinstance(value, tuple | list):
        return " ".join(map(str, value))
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
