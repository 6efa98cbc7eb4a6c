"""Parsing of a job's arguments; a mistake in them is one line that names the option."""

import io
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields, is_dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NoReturn, Protocol, TypeVar

from ossnet.commands._parse.help import WIDTH, Option, format_help, format_rows, list_options
from ossnet.commands._parse.suggestions import unknown_argument
from ossnet.config_tree import unknown_name
from ossnet.errors import UserError

if TYPE_CHECKING:
    from ossnet.config import Config


class _OfNetwork(Protocol):
    """Options that choose a network and a store, on which the configuration's defaults depend."""

    @property
    def model(self) -> str: ...

    @property
    def data(self) -> Path | None: ...


_PREFIX = re.compile(r"^Error parsing ([A-Z]\w*: )?")  # tyro's, and the name of a class that nobody typed
_TWICE = re.compile(r"^(\S+): (?=\1: )")
_NO_NUMBER = {  # in the words of Python, and of tyro where the option may be left out
    r"invalid literal for int\(\) with base 10: '(.*)'": "a whole number",
    r"could not convert string to float: '(.*)'": "a number",
    r"no type matching \{None\}\|INT could be instantiated from \['(.*?)'\].*": "a whole number",
    r"no type matching \{None\}\|FLOAT could be instantiated from \['(.*?)'\].*": "a number",
}

Options = TypeVar("Options")
Part = TypeVar("Part")
OptionsOfNetwork = TypeVar("OptionsOfNetwork", bound=_OfNetwork)

COMMON_SETTINGS = {
    "--model.decoder-width INT": "features of the decoder's residual blocks",
    "--model.patch-edge INT": "voxels along an edge of the patch that the decoder sees around a point",
    "--sampling.points INT": "points drawn from a case in a step",
    "--sampling.border-fraction FLOAT": "part of them drawn near the label's surface",
    "--training.batch-size INT": "cases in a step",
    "--training.precision NAME": "float32 or bf16",
    "--training.seed INT": "seed of every random choice",
    "--optimizer.name NAME": "which optimizer",
    "--optimizer.learning-rate FLOAT": "its learning rate",
}
"""The settings that are changed most, as `--help` shows them without loading their classes."""


@dataclass(frozen=True)
class Command(Generic[Options]):
    """The command line of a job."""

    name: str
    """The word after `ossnet`."""
    text: str
    """A description of the job."""
    kind: type[Options]
    """The dataclass of its own options."""
    configurable: bool = False
    """Whether every field of the configuration is a dotted option too."""

    def parse(self, arguments: Sequence[str], *notes: str) -> Options:
        """The job's options from its arguments.

        Raises:
            UserError: an unknown option (names the nearest), or a value that does not fit.
            SystemExit: help was requested, and printed.
        """
        if not {"-h", "--help", "--help-all"}.isdisjoint(arguments):
            _print_and_exit(format_help(f"ossnet {self.name} [options]", self.text, self.options(), *notes))
        options, rest = _parse(self.kind, arguments)
        _reject(rest, self.options())
        return options

    def options(self) -> list[Option]:
        """The job's own options."""
        return [*list_options(self.kind), Option("--help", "", (), "", "Show this page.")]


@dataclass(frozen=True)
class Dotted:
    """The dotted options of a command line."""

    given: Mapping[str, Any]
    """The values that are given, by path."""
    auto: tuple[str, ...] = ()
    """The paths that are given as `auto`."""


def parse_with_config(
    command: Command[OptionsOfNetwork],
    arguments: Sequence[str],
    default: Callable[[str, Path | None], "Config"],
    *,
    check: Callable[[OptionsOfNetwork], None] = lambda options: None,
) -> tuple[OptionsOfNetwork, Dotted]:
    """A job's own options, and the dotted ones.

    Args:
        command: of a job whose options choose a network and a store.
        arguments: what follows the job's name.
        default: gives the configuration of a network and a store (None: the job makes a phantom), against
            which dotted options are checked. It is called only when there is no mistake in the options.
        check: rejects values that the job reads itself.

    Raises:
        UserError: an unknown option (names the nearest), or a value that does not fit.
        SystemExit: help was requested, and printed.
    """
    from ossnet.models import PRESETS

    usage = f"ossnet {command.name} [options]"
    every = Option("--help-all", "", (), "", "Show every setting, with the defaults of --model and --data.")
    if not {"-h", "--help"}.isdisjoint(arguments):
        networks = textwrap.fill(f"networks: {', '.join(PRESETS)}", WIDTH, break_on_hyphens=False)
        notes = (
            f"{networks}\nsettings (--help-all shows all of them):\n{format_rows(COMMON_SETTINGS.items())}"
        )
        _print_and_exit(format_help(usage, command.text, [*command.options(), every], notes))
    options, dotted = _parse(command.kind, [each for each in arguments if each != "--help-all"])
    if "--help-all" in arguments:
        preset = _preset(options.model, options.data)
        rows = [*command.options(), every, *list_options(type(preset), preset)]
        _print_and_exit(format_help(usage, command.text, rows))
    check(options)
    preset = _preset(options.model)
    settings = list(list_options(type(preset), preset))
    known = [*command.options(), *settings]
    _reject(_unknown(dotted, known), known)
    dotted, auto = _split_auto(dotted)
    if options.data is None:  # the phantom is made for options without a mistake only
        _parse(type(preset), dotted, preset)
    base = default(options.model, options.data)
    config, rest = _parse(type(base), dotted, base)
    _reject(rest, known)
    flat, names = config.flatten(), {_option_name(argument) for argument in dotted}
    given = {_path(each.name, flat): flat[_path(each.name, flat)] for each in settings if each.name in names}
    return options, Dotted(given, auto)


def choose_command(
    commands: Mapping[str, Command[Options]], arguments: Sequence[str]
) -> tuple[str, Command[Options], list[str]]:
    """The name and the command that the first argument names, or the first ones, and the other arguments.

    Raises:
        UserError: an unknown name (names the nearest).
    """
    word, rest = next(iter(commands)), list(arguments)
    if rest and not rest[0].startswith("-"):
        word, *rest = rest
    if word not in commands:
        raise unknown_name("arguments", "command", word, commands)
    return word, commands[word], rest


def extract(kind: type[Part], options: Any) -> Part:
    """The configuration whose fields a job's options have too."""
    assert is_dataclass(kind)
    return kind(**{field.name: getattr(options, field.name) for field in fields(kind)})


def _preset(model: str, data: Path | None = None) -> "Config":
    from ossnet.config import Config
    from ossnet.data import Store
    from ossnet.data.layouts import layouts

    if model in layouts():
        raise UserError(
            "--model",
            expected="a network",
            found=f"{model!r}, a layout of scans",
            remedy=f"give ossnet prepare --layout {model}, or leave --model out",
        )
    return Config.preset(model, None if data is None else Store.open(data))


def _print_and_exit(text: str) -> NoReturn:
    print(text)
    sys.exit(0)


def _parse(kind: type[Options], arguments: Sequence[str], default: Any = None) -> tuple[Options, list[str]]:
    """Parse the arguments with tyro; returns the options and the arguments that tyro does not recognize."""
    import tyro

    foreign = next((each for each in arguments if each.startswith("--tyro-")), None)
    if foreign is not None:  # what they print is not about `ossnet`
        raise UserError(foreign, expected="an option of ossnet", remedy="for completion: ossnet --completion")
    markers = (tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff)
    given = tyro.MISSING_NONPROP if default is None else default
    with _one_line_errors():
        return tyro.cli(kind, args=arguments, default=given, return_unknown_args=True, config=markers)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Raise what tyro prints in a box of several lines as a UserError of one line."""
    box = io.TextIOWrapper(io.BytesIO(), "utf-8")  # where a terminal has another encoding, boxes differ
    try:
        with redirect_stdout(box), redirect_stderr(box):
            yield
    except SystemExit as stop:
        if not stop.code:
            raise
        box.seek(0)
        text = box.read()
        lines = [line.strip(" │") for line in text.splitlines() if line.startswith("│")]
        message = takewhile(lambda line: not line.startswith("─"), lines)
        line = " ".join(filter(None, message)) or " ".join(text.split())
        line = _TWICE.sub("", _PREFIX.sub("", line))
        for words, expected in _NO_NUMBER.items():
            line = re.sub(words, rf"expected {expected}, found \1", line)
        raise UserError(line) from None


def _split_auto(arguments: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """The arguments without those that are `auto`, and the paths of these, where a recipe chooses them."""
    from ossnet.planning.configure.recipe import AUTO_PATHS

    rest, auto = list[str](), list[str]()
    queue = list(arguments)
    while queue:
        word = queue.pop(0)
        name, equals, value = word.partition("=")
        path = name.removeprefix("--").replace("-", "_")
        if path in AUTO_PATHS and (value == "auto" if equals else queue[:1] == ["auto"]):
            auto.append(path)
            del queue[: 0 if equals else 1]
        else:
            rest.append(word)
    return rest, tuple(auto)


def _option_name(argument: str) -> str:
    return argument.split("=")[0].replace("_", "-")


def _path(option: str, known: Mapping[str, Any]) -> str:
    """The path of a setting's option; a switch that is on by default has `no-` before its name."""
    path = option.removeprefix("--").replace("-", "_")
    parent, _, name = path.rpartition(".")
    return path if path in known else f"{parent}.{name.removeprefix('no_')}"


def _unknown(arguments: Sequence[str], known: Sequence[Option]) -> list[str]:
    names = {option.name for option in known}
    given = [argument for argument in arguments if argument.startswith("--")]
    return [argument for argument in given if _option_name(argument) not in names]


def _reject(rest: Sequence[str], known: Sequence[Option]) -> None:
    if rest:
        raise unknown_argument(rest[0].split("=")[0], known)
