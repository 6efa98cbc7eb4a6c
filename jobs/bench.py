"""Compare. `models` (also without a word): networks. `input`: ways to prepare samples. `memory`: predicted
and measured peaks. `inference`: ways to predict volumes. `search`: our search and the usual recipe."""

import logging
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from ossnet import cli
from ossnet.benchmarks import (
    InferenceBenchmarkConfig,
    InputBenchmarkConfig,
    MemoryBenchmarkConfig,
    NetworksBenchmarkConfig,
)
from ossnet.distributed.benchmark.search import SearchBenchmarkConfig

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """Options of every comparison."""

    output: Path | None = None
    """Folder for the result as JSON and PNG; by default runs/bench-DATE-TIME."""
    json: bool = False
    """Print the result for machines, last and alone."""


@dataclass(frozen=True)
class Models(Job, NetworksBenchmarkConfig):
    """Options of `models`."""

    def run(self, path: Path, command: str) -> None:
        """Measure, write, show."""
        from ossnet.benchmarks import measure_models
        from ossnet.benchmarks.networks import figure, table

        found = measure_models(self, command=command, progress=lambda row: logger.info(table.summary(row)))
        cli.finish_record(found, path, figure.draw, table.show, json=self.json)


@dataclass(frozen=True)
class Input(Job, InputBenchmarkConfig):
    """Options of `input`."""

    def run(self, path: Path, command: str) -> None:
        """Measure, write, show."""
        from ossnet.benchmarks import measure_input
        from ossnet.benchmarks.input import results as input_results

        found = measure_input(
            self, command=command, progress=lambda row: logger.info(input_results.summary(row))
        )
        cli.finish_record(found, path, input_results.draw, input_results.show, json=self.json)


@dataclass(frozen=True)
class Memory(Job, MemoryBenchmarkConfig):
    """Options of `memory`."""

    def run(self, path: Path, command: str) -> None:
        """Measure, write, show."""
        from ossnet.benchmarks import measure_memory
        from ossnet.benchmarks.memory import results as memory_results

        found = measure_memory(
            self, command=command, progress=lambda row: logger.info(memory_results.summary(row))
        )
        cli.finish_record(found, path, memory_results.draw, memory_results.show, json=self.json)


@dataclass(frozen=True)
class Inference(Job, InferenceBenchmarkConfig):
    """Options of `inference`."""

    def run(self, path: Path, command: str) -> None:
        """Measure, write, show."""
        from ossnet.benchmarks import measure_inference
        from ossnet.benchmarks.inference import results

        found = measure_inference(
            self, command=command, progress=lambda row: logger.info(results.summary(row))
        )
        cli.finish_record(found, path, results.draw, results.show, json=self.json)


@dataclass(frozen=True)
class Search(Job, SearchBenchmarkConfig):
    """Options of `search`."""

    space: Path = Path(__file__).parents[1] / "search_spaces" / "small.py"

    def run(self, path: Path, command: str) -> None:
        """Search, write, show."""
        from ossnet.distributed.benchmark import results, search
        from ossnet.distributed.launch import launch_study

        found = search.compare(
            self,
            path.parent,
            command=command,
            run_study=launch_study,
            progress=lambda row: logger.info(row.summary),
        )
        cli.finish_record(found, path, results.draw, results.show, json=self.json)


def main() -> None:
    """Run the job."""
    kinds = (Models, Input, Memory, Inference, Search)
    options = cli.parse_command({kind.__name__.lower(): kind for kind in kinds}, description=str(__doc__))
    assert isinstance(options, kinds)
    output = options.output or cli.new_folder("bench")
    options.run(output / type(options).__name__.lower(), shlex.join(["python", *sys.argv]))


if __name__ == "__main__":
    cli.run(main)
