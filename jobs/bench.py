"""Compare networks (`models`, also without a word), ways to prepare samples (`input`) or to predict volumes
(`inference`)."""

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ossnet import cli
from ossnet.benchmarks import InferenceSettings, InputSettings, ModelsSettings

if TYPE_CHECKING:
    from ossnet.benchmarks.record import Record

Row = TypeVar("Row")


@dataclass(frozen=True)
class Output:
    """Where results go."""

    output: Path | None = None
    """Folder for the result as JSON and a figure; by default runs/bench-DATE-TIME."""
    json: bool = False
    """Print the result for machines, last and alone."""


@dataclass(frozen=True)
class Models(Output, ModelsSettings):
    """Options of `models`."""


@dataclass(frozen=True)
class Input(Output, InputSettings):
    """Options of `input`."""


@dataclass(frozen=True)
class Inference(Output, InferenceSettings):
    """Options of `inference`."""


def main() -> None:
    """Run the job."""
    jobs: dict[str, type[Models | Input | Inference]] = {
        "models": Models,
        "input": Input,
        "inference": Inference,
    }
    options = cli.parse_command(jobs, description=str(__doc__))
    command = shlex.join(["python", *sys.argv])
    if isinstance(options, Models):
        from ossnet.benchmarks import figure, measure_models, table

        found = measure_models(options, command=command, progress=_telling(table.summary))
        rates = ", ".join(f"{rate:.0f} GFLOP/s in {name}" for name, rate in found.gflops.items())
        _keep("models", options, found, figure.draw(found), lambda: table.show(found), rates)
    elif isinstance(options, Input):
        from ossnet.benchmarks import input_results, measure_input

        ways = measure_input(options, command=command, progress=_telling(input_results.summary))
        _keep("input", options, ways, input_results.draw(ways), lambda: input_results.show(ways))
    else:
        from ossnet.benchmarks import inference_results, measure_inference

        taken = measure_inference(options, command=command, progress=_telling(inference_results.summary))
        rates = ", ".join(f"{rate:.0f} GFLOP/s in {name}" for name, rate in taken.gflops.items())
        picture = inference_results.draw(taken)
        _keep("inference", options, taken, picture, lambda: inference_results.show(taken), rates)


def _keep(
    name: str, options: Output, result: "Record", picture: bytes, show: Callable[[], None], rates: str = ""
) -> None:
    """Write, show."""
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
    cli.finish(made={**({"matrix products": rates} if rates else {}), **files})


def _telling(summary: Callable[[Row], str]) -> Callable[[Row], None]:
    return lambda row: print(summary(row), file=sys.stderr)


if __name__ == "__main__":
    cli.run(main)
