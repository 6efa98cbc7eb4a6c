"""Compare. `models` (also without a word): time and memory of networks. `input`: ways to prepare samples."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ossnet import cli
from ossnet.benchmarks import InputSettings, ModelsSettings

if TYPE_CHECKING:
    from ossnet.benchmarks import InputRow, ModelRow


@dataclass(frozen=True)
class Models(ModelsSettings):
    """Options of `models`."""

    output: Path | None = None
    """Folder for models.json and models.png; by default runs/bench-DATE-TIME."""
    json: bool = False
    """Print the result for machines, last and alone."""


@dataclass(frozen=True)
class Input(InputSettings):
    """Options of `input`."""

    output: Path | None = None
    """Folder for input.json and input.png; by default runs/bench-DATE-TIME."""
    json: bool = False
    """Print the result for machines, last and alone."""


def main() -> None:
    """Run the job."""
    jobs: dict[str, type[Models | Input]] = {"models": Models, "input": Input}
    options = cli.parse_command(jobs, description=str(__doc__))
    models(options) if isinstance(options, Models) else prepare(options)


def models(options: Models) -> None:
    """Measure, write, show."""
    from ossnet.benchmarks import figure, measure_models, table
    from ossnet.files import write_aside
    from ossnet.tree import to_dict

    output = options.output or cli.new_folder("bench")
    result = measure_models(options, command=shlex.join(["python", *sys.argv]), progress=_tell)
    files = {"result": output / "models.json", "figure": output / "models.png"}
    result.write(files["result"])
    write_aside(files["figure"], figure.draw(result))
    if options.json:
        cli.finish_json({**to_dict(result), "files": files})
        return
    table.show(result)
    rates = ", ".join(f"{rate:.0f} GFLOP/s in {name}" for name, rate in result.gflops.items())
    cli.finish(made={"rows": len(result.rows), "matrix products": rates, **files})


def prepare(options: Input) -> None:
    """Measure, write, show."""
    from ossnet.benchmarks import input_results, measure_input
    from ossnet.files import write_aside
    from ossnet.tree import to_dict

    output = options.output or cli.new_folder("bench")
    result = measure_input(options, command=shlex.join(["python", *sys.argv]), progress=_tell_input)
    files = {"result": output / "input.json", "figure": output / "input.png"}
    result.write(files["result"])
    write_aside(files["figure"], input_results.draw(result))
    if options.json:
        cli.finish_json({**to_dict(result), "files": files})
        return
    input_results.show(result)
    cli.finish(made={"rows": len(result.rows), **files})


def _tell_input(row: "InputRow") -> None:
    print(f"{row.network} {row.way}: {row.sample_s:.3g} s a sample", file=sys.stderr)


def _tell(row: "ModelRow") -> None:
    from ossnet.benchmarks.table import summary

    print(summary(row), file=sys.stderr)


if __name__ == "__main__":
    cli.run(main)
