"""The output of a job: what it made, where, and the next command; or one JSON object."""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ossnet.errors import printable

if TYPE_CHECKING:
    from ossnet.benchmarks.result import BenchmarkResult

Result = TypeVar("Result", bound="BenchmarkResult")


def new_folder(job: str) -> Path:
    """The folder of a job without --output: a name in `runs` that no earlier run has."""
    return Path("runs") / f"{job}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"


def command_line(job: str, *arguments: object) -> str:
    """A command to copy into a shell: a job of `ossnet` with its arguments."""
    return printable(shlex.join(["ossnet", job, *map(_shown, arguments)]))


def finish(outputs: Mapping[str, object], *, follow_up: str | None = None) -> None:
    """Print what a job made, and the next command, which a shell reads as it stands."""
    width = max(map(len, outputs), default=0)
    print()
    for name, value in outputs.items():
        print(f"  {name:<{width}}  {printable(_shown(value))}")
    if follow_up:
        print(f"\nNext: {follow_up}")


def add_to_run(checkpoints: Sequence[Path], metrics: Mapping[str, float]) -> None:
    """Add what a job found to the run of its checkpoint, where that is tracked and the job has just one."""
    from ossnet.training.reporting import RunOrigin

    origin = RunOrigin.read(checkpoints[0]) if len(checkpoints) == 1 else None
    if origin is not None and metrics:
        from ossnet.output.progress import progress

        with progress("writing to MLflow"):
            from ossnet.distributed.tracking import later  # needs MLflow, which the job itself does not

            later.add_to_run(origin, metrics)


def finish_json(result: Mapping[str, Any]) -> None:
    """Print a result as one JSON object, last and alone on its line."""
    print(printable(json.dumps(result, default=_shown)))


def _shown(value: object) -> str:
    """A value as text; a path that is part of a copy as its URL."""
    if not isinstance(value, Path):
        return str(value)
    from ossnet.output.remote.copies import location_of

    return location_of(value)


def finish_benchmark(
    result: Result,
    path: Path,
    draw: Callable[[Result], bytes],
    show: Callable[[Result], None],
    *,
    json: bool,
) -> None:
    """Write a benchmark's result and its figure (`path` with .json and .png), and print it."""
    from ossnet.config_tree import to_dict
    from ossnet.output.atomic_write import atomic_write

    files = {"result": path.with_suffix(".json"), "figure": path.with_suffix(".png")}
    result.write(files["result"])
    atomic_write(files["figure"], draw(result))
    if json:
        finish_json({**to_dict(result), "files": files})
        return
    show(result)
    finish({**result.summary(), **files})
