"""What every job shares: options from dataclasses, one-line errors with exit code 2, the closing words."""

import dataclasses
import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from datetime import datetime
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ossnet.config_tree import did_you_mean
from ossnet.errors import UserError
from ossnet.output.logging import configure_logging

if TYPE_CHECKING:
    from ossnet.benchmarks.result import BenchmarkResult
    from ossnet.config import Config

Job = TypeVar("Job")
Result = TypeVar("Result", bound="BenchmarkResult")

_HELP = "The configuration, by dotted options; the defaults are those of the chosen network and data."
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def run(main: Callable[[], None]) -> None:
    """Run a job; a user's mistake becomes one line on the error stream and exit code 2."""
    configure_logging()
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def parse(job: type[Job], *, description: str, arguments: Sequence[str] | None = None) -> Job:
    """The job's options from the command line, or from other arguments.

    Raises:
        UserError: an unknown option (names the nearest).
    """
    import tyro

    with _one_line_errors():
        options, rest = tyro.cli(
            job,
            args=arguments,
            description=description,
            return_unknown_args=True,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    _refuse(rest, _options(options))
    return options


def parse_command(jobs: Mapping[str, type[Job]], *, description: str) -> Job:
    """The options of the job that the command line's first word names; without a word, of the first job.

    Raises:
        UserError: an unknown word or option (names the nearest).
    """
    word, arguments = next(iter(jobs)), sys.argv[1:]
    if arguments and not arguments[0].startswith("-"):
        word, *arguments = arguments
    if word not in jobs:
        raise UserError(did_you_mean("command", word, jobs))
    return parse(jobs[word], description=description, arguments=arguments)


def parse_with_config(
    job: type[Job], *, description: str, default: Callable[[str | None, Path | None], "Config"]
) -> tuple[Job, "Config"]:
    """The job's own options, and every field of the configuration as a dotted option.

    The defaults of the dotted options depend on the network and the data, so `default` is first asked for
    the configuration of `--model` and `--data`, each None where it is not given.
    """
    import tyro

    from ossnet.config import Config

    settings = (tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff)
    data = _option("--data")
    base = default(_option("--model"), Path(data) if data else None)
    if {"-h", "--help"} & set(sys.argv[1:]):
        with suppress(SystemExit):  # help ends the process; there are two halves to print
            tyro.cli(job, args=["--help"], description=description, config=settings)
        tyro.cli(Config, args=["--help"], default=base, description=_HELP, config=settings)
    with _one_line_errors():
        options, dotted = tyro.cli(job, description=description, return_unknown_args=True, config=settings)
        config, rest = tyro.cli(Config, args=dotted, default=base, return_unknown_args=True, config=settings)
    _refuse(rest, [*_options(options), *_options(config)])
    return options, config


def extract(kind: type[Job], options: Any) -> Job:
    """The part of a job's options that a configuration's fields name."""
    return kind(**{field.name: getattr(options, field.name) for field in dataclasses.fields(kind)})  # type: ignore[arg-type]


def parse_duration(duration: str) -> float:
    """`90`, `90s`, `20m`, `1.5h` or `2d` in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", duration.strip())
    if match is None:
        msg = f"duration {duration!r}: expected a number with s, m, h or d after it, as in 20m"
        raise UserError(msg)
    return float(match[1]) * _SECONDS[match[2] or "s"]


def new_folder(job: str) -> Path:
    """Where a job writes that was not told: a name in `runs` that no earlier run has."""
    return Path("runs") / f"{job}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"


def finish(*, made: Mapping[str, object], follow_up: str | None = None) -> None:
    """Close a job: what it made, where, and the next command."""
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    width = max(map(len, made), default=0)
    console.print()
    for name, value in made.items():
        console.print(f"  {name:<{width}}  {value}", markup=False)
    if follow_up:
        console.print(f"\nNext: {follow_up}", markup=False)


def finish_json(result: Mapping[str, Any]) -> None:
    """Close a job for machines: one JSON object, last and alone on its line."""
    print(json.dumps(result, default=str))


def finish_record(
    result: Result,
    path: Path,
    draw: Callable[[Result], bytes],
    show: Callable[[Result], None],
    *,
    json: bool,
) -> None:
    """Close a comparison: its result and its picture beside one another, `path` with .json and .png."""
    from ossnet.config_tree import to_dict
    from ossnet.output.atomic_write import atomic_write

    files = {"result": path.with_suffix(".json"), "figure": path.with_suffix(".png")}
    result.write(files["result"])
    atomic_write(files["figure"], draw(result))
    if json:
        finish_json({**to_dict(result), "files": files})
        return
    show(result)
    finish(made={**result.told(), **files})


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """What tyro refuses in a box of several lines becomes one line, as every mistake of the user's."""
    box = io.StringIO()
    try:
        with redirect_stderr(box):
            yield
    except SystemExit as stop:
        if not stop.code:
            raise
        lines = [line.strip(" │") for line in box.getvalue().splitlines() if line.startswith("│")]
        told = takewhile(lambda line: not line.startswith("─"), lines)
        raise UserError(" ".join(filter(None, told)) or box.getvalue().strip()) from None


def _refuse(rest: Sequence[str], known: Sequence[str]) -> None:
    if rest:
        raise UserError(did_you_mean("option", rest[0].split("=")[0], known))


def _options(parsed: Any) -> Sequence[str]:
    names: list[str] = []

    def walk(tree: Any, prefix: str) -> None:
        for field in dataclasses.fields(tree):
            value = getattr(tree, field.name)
            if dataclasses.is_dataclass(value):
                walk(value, f"{prefix}{field.name}.")
            else:
                names.append(f"--{prefix}{field.name}".replace("_", "-"))

    walk(parsed, "")
    return names


def _option(name: str) -> str | None:
    for position, argument in enumerate(sys.argv[1:], start=1):
        if argument == name and position + 1 < len(sys.argv):
            return sys.argv[position + 1]
        if argument.startswith(f"{name}="):
            return argument.split("=", 1)[1]
    return None
