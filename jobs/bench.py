"""Compare. `models` (also without a word): time and memory of networks. `input`: ways to prepare samples.
`search`: a search under a memory budget, and Ray Tune with Optuna as Ray's documentation combines them."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from ossnet import cli
from ossnet.benchmarks import InputSettings, ModelsSettings
from ossnet.distributed.console import say
from ossnet.distributed.contest import ContestSettings


@dataclass(frozen=True)
class Job:
    """Options of every comparison."""

    output: Path | None = None
    """Folder for the result as JSON and PNG; by default runs/bench-DATE-TIME."""
    json: bool = False
    """Print the result for machines, last and alone."""


@dataclass(frozen=True)
class Models(Job, ModelsSettings):
    """Options of `models`."""


@dataclass(frozen=True)
class Input(Job, InputSettings):
    """Options of `input`."""


@dataclass(frozen=True)
class Search(Job, ContestSettings):
    """Options of `search`."""

    space: Path = Path(__file__).parents[1] / "search_spaces" / "small.py"


def main() -> None:
    """Run the job."""
    jobs: dict[str, type[Models | Input | Search]] = {"models": Models, "input": Input, "search": Search}
    options = cli.parse_command(jobs, description=str(__doc__))
    command, output = shlex.join(["python", *sys.argv]), options.output or cli.new_folder("bench")
    if isinstance(options, Models):
        models(options, output, command)
    elif isinstance(options, Input):
        prepare(options, output, command)
    else:
        search(options, output, command)


def models(options: Models, output: Path, command: str) -> None:
    """Measure, write, show."""
    from ossnet.benchmarks import figure, measure_models, table

    result = measure_models(options, command=command, progress=lambda row: say(table.summary(row)))
    rates = ", ".join(f"{rate:.0f} GFLOP/s in {name}" for name, rate in result.gflops.items())
    made = {"rows": len(result.rows), "matrix products": rates}
    cli.finish_record(result, output / "models", figure.draw, table.show, made=made, json=options.json)


def prepare(options: Input, output: Path, command: str) -> None:
    """Measure, write, show."""
    from ossnet.benchmarks import input_results, measure_input

    result = measure_input(options, command=command, progress=lambda row: say(input_results.summary(row)))
    draw, show, made = input_results.draw, input_results.show, {"rows": len(result.rows)}
    cli.finish_record(result, output / "input", draw, show, made=made, json=options.json)


def search(options: Search, output: Path, command: str) -> None:
    """Search, write, show."""
    from ossnet.distributed import contest, contest_results

    result = contest.compare(options, output, command=command, progress=lambda row: say(row.summary))
    draw, show, made = contest_results.draw, contest_results.show, {"studies": len(result.rows)}
    cli.finish_record(result, output / "search", draw, show, made=made, json=options.json)


if __name__ == "__main__":
    cli.run(main)
