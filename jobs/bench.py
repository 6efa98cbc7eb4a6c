"""Compare. `models` (also without a word): time and memory of networks. `input`: ways to prepare samples.
`memory`: predicted with measured peaks."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ossnet import cli
from ossnet.benchmarks import InputSettings, MemorySettings, ModelsSettings

if TYPE_CHECKING:
    from ossnet.benchmarks.record import Record


@dataclass(frozen=True)
class Output:
    """Where results go."""

    output: Path | None = None
    """Folder for the result as JSON and as a picture; by default runs/bench-DATE-TIME."""
    json: bool = False
    """Print the result for machines, last and alone."""


@dataclass(frozen=True)
class Models(Output, ModelsSettings):
    """Options of `models`."""


@dataclass(frozen=True)
class Input(Output, InputSettings):
    """Options of `input`."""


@dataclass(frozen=True)
class Memory(Output, MemorySettings):
    """Options of `memory`."""


def main() -> None:
    """Measure, write, show."""
    jobs: dict[str, type[Models | Input | Memory]] = {"models": Models, "input": Input, "memory": Memory}
    options = cli.parse_command(jobs, description=str(__doc__))
    command = shlex.join(["python", *sys.argv])
    if isinstance(options, Models):
        from ossnet.benchmarks import figure, measure_models, table

        models = measure_models(options, command=command, progress=_teller(table.summary))
        _finish(options, "models", models, figure.draw(models), lambda: table.show(models), models.told())
    elif isinstance(options, Memory):
        from ossnet.benchmarks import measure_memory, memory_results

        memory = measure_memory(options, command=command, progress=_teller(memory_results.summary))
        picture = memory_results.draw(memory)
        _finish(options, "memory", memory, picture, lambda: memory_results.show(memory), memory.told())
    else:
        from ossnet.benchmarks import input_results, measure_input

        ways = measure_input(options, command=command, progress=_teller(input_results.summary))
        _finish(
            options, "input", ways, input_results.draw(ways), lambda: input_results.show(ways), ways.told()
        )


def _finish(
    options: Output,
    name: str,
    result: "Record",
    picture: bytes,
    show: Callable[[], None],
    told: dict[str, object],
) -> None:
    from ossnet.files import write_aside
    from ossnet.tree import to_dict

    output = options.output or cli.new_folder("bench")
    files = {"result": output / f"{name}.json", "figure": output / f"{name}.png"}
    result.write(files["result"])
    write_aside(files["figure"], picture)
    if options.json:
        cli.finish_json({**to_dict(result), "files": files})
        return
    show()
    cli.finish(made={**told, **files})


def _teller(summary: Callable[[Any], str]) -> Callable[[Any], None]:
    return lambda row: print(summary(row), file=sys.stderr)


if __name__ == "__main__":
    cli.run(main)
