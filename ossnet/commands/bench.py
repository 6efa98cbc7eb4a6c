"""Benchmark networks, input, memory, inference, workers, searches and trainings; alone: `bench models`."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from ossnet.benchmarks import (
    ClassesBenchmarkConfig,
    InferenceBenchmarkConfig,
    InputBenchmarkConfig,
    MemoryBenchmarkConfig,
    MethodsBenchmarkConfig,
    NetworksBenchmarkConfig,
    PaperBenchmarkConfig,
    ResolutionBenchmarkConfig,
    ScalingBenchmarkConfig,
)
from ossnet.benchmarks.config import PAPER_MODELS
from ossnet.commands._output import command_line, finish_benchmark, new_folder
from ossnet.commands._parse import Command, choose_command
from ossnet.commands._parse.help import format_rows
from ossnet.commands._values import budget_gib, parse_duration, space_file
from ossnet.distributed.benchmark.search import SearchBenchmarkConfig
from ossnet.distributed.benchmark.simulation.config import SimulationConfig
from ossnet.errors import UserError
from ossnet.inference.config import Axis

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BenchOptions:
    """Options of every benchmark."""

    output: Path | None = None
    """Folder for the result as JSON and PNG; by default runs/bench-DATE-TIME."""
    json: bool = False
    """Print the result as JSON, last and alone."""


@dataclass(frozen=True)
class ModelsOptions(BenchOptions, NetworksBenchmarkConfig):
    """Time, memory and arithmetic of a training step of networks."""

    def run(self, path: Path, command: str) -> None:
        """Measure, write and print."""
        from ossnet.benchmarks import measure_models
        from ossnet.benchmarks.networks import figure, table

        found = measure_models(self, command=command, progress=lambda row: logger.info(table.summary(row)))
        finish_benchmark(found, path, figure.draw, table.show, json=self.json)


@dataclass(frozen=True)
class InputOptions(BenchOptions, InputBenchmarkConfig):
    """Time to prepare samples, compared with the usual ways."""

    def run(self, path: Path, command: str) -> None:
        """Measure, write and print."""
        from ossnet.benchmarks import measure_input
        from ossnet.benchmarks.input import results as input_results

        found = measure_input(
            self, command=command, progress=lambda row: logger.info(input_results.summary(row))
        )
        finish_benchmark(found, path, input_results.draw, input_results.show, json=self.json)


@dataclass(frozen=True)
class MemoryOptions(BenchOptions, MemoryBenchmarkConfig):
    """Predicted peak memory, compared with the measured one."""

    def run(self, path: Path, command: str) -> None:
        """Measure, write and print."""
        from ossnet.benchmarks import measure_memory
        from ossnet.benchmarks.memory import results as memory_results

        found = measure_memory(
            self, command=command, progress=lambda row: logger.info(memory_results.summary(row))
        )
        finish_benchmark(found, path, memory_results.draw, memory_results.show, json=self.json)


@dataclass(frozen=True)
class ClassesOptions(BenchOptions, ClassesBenchmarkConfig):
    """Peak memory of training over the number of classes."""

    def run(self, path: Path, command: str) -> None:
        """Predict, measure where requested, write and print."""
        from ossnet.benchmarks import measure_classes
        from ossnet.benchmarks.memory import classes

        found = measure_classes(self, command=command, progress=lambda row: logger.info(classes.summary(row)))
        finish_benchmark(found, path, classes.draw, classes.show, json=self.json)


@dataclass(frozen=True)
class ResolutionOptions(BenchOptions, ResolutionBenchmarkConfig):
    """Peak memory of training and inference over the resolution."""

    def run(self, path: Path, command: str) -> None:
        """Predict, measure where requested, write and print."""
        from ossnet.benchmarks import measure_resolution
        from ossnet.benchmarks.memory import resolution

        found = measure_resolution(
            self, command=command, progress=lambda row: logger.info(resolution.summary(row))
        )
        finish_benchmark(found, path, resolution.draw, resolution.show, json=self.json)


@dataclass(frozen=True)
class InferenceOptions(BenchOptions, InferenceBenchmarkConfig):
    """Time and points to predict whole volumes."""

    def run(self, path: Path, command: str) -> None:
        """Measure, write and print."""
        from ossnet.benchmarks import measure_inference
        from ossnet.benchmarks.inference import results

        found = measure_inference(
            self, command=command, progress=lambda row: logger.info(results.summary(row))
        )
        finish_benchmark(found, path, results.draw, results.show, json=self.json)


@dataclass(frozen=True)
class MethodsOptions(BenchOptions, MethodsBenchmarkConfig):
    """What each method of inference loses and costs, on trained networks."""

    checkpoint: tuple[Path, ...] = ()
    """Folders that training wrote; by default that of a short training on a phantom."""
    data: Path | None = None
    """Store that `prepare` wrote; by default the phantom's."""

    def run(self, path: Path, command: str) -> None:
        """Predict, write and print."""
        from ossnet.benchmarks import measure_methods
        from ossnet.benchmarks.methods import results
        from ossnet.data import Store

        found = measure_methods(
            self,
            self.checkpoint or (_demo().checkpoint(),),
            Store.open(self.data) if self.data else _demo().open_store(None),
            command=command,
            progress=lambda row: logger.info(results.summary(row)),
        )
        finish_benchmark(found, path, results.draw, results.show, json=self.json)


@dataclass(frozen=True)
class ScalingOptions(BenchOptions, ScalingBenchmarkConfig):
    """CPU seconds of a training step on several workers, compared with one."""

    def run(self, path: Path, command: str) -> None:
        """Train, write and print."""
        from ossnet.distributed.benchmark import scaling, scaling_results

        found = scaling.measure_scaling(
            self,
            path.parent,
            command=command,
            progress=lambda row: logger.info(row.summary),
        )
        finish_benchmark(found, path, scaling_results.draw, scaling_results.show, json=self.json)


@dataclass(frozen=True)
class SearchOptions(BenchOptions):
    """Searches under a memory budget, at equal CPU time; with the same --output it goes on."""

    data: Path | None = None
    """Store that `prepare` wrote; by default a small phantom that this job makes."""
    space: str = "small"
    """Python file with space(trial), or one of ossnet's."""
    methods: str = "ossnet,optuna,random"
    """Searches to compare: ossnet, optuna, random, optuna-fitted, syne-tune."""
    memory_budget: str | None = None
    """Peak memory of a step, as 150MiB; by default a third of the space fits."""
    time_per_study: str = "1m"
    """CPU time of each study."""
    seeds: int = 3
    """Studies of each search."""

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            UserError: names the option.
        """
        self.settings  # noqa: B018 - which checks them

    @property
    def settings(self) -> SearchBenchmarkConfig:
        """The options as values."""
        return SearchBenchmarkConfig(
            space=space_file(self.space),
            methods=tuple(self.methods.split(",")),
            seeds=self.seeds,
            time_s=parse_duration(self.time_per_study),
            budget_gib=budget_gib(self.memory_budget),
        )

    def run(self, path: Path, command: str) -> None:
        """Search, write and print."""
        from ossnet.distributed.benchmark import results, search

        found = search.compare(
            self.settings,
            path.with_suffix(".json"),
            data=self.data,
            command=command,
            progress=lambda row: logger.info(row.summary),
        )
        finish_benchmark(found, path, results.draw, results.show, json=self.json)


@dataclass(frozen=True)
class PaperOptions(BenchOptions):
    """Networks trained in equal time and compared, with intervals; with the same --output it goes on."""

    data: Path | None = None
    """Store that `prepare` wrote; by default a small phantom that this job makes."""
    phantom: Literal["small", "hard"] = "small"
    """The phantom: hard has 24 heads at half of BraTS's size, with small lesions of low contrast."""
    models: tuple[str, ...] = PAPER_MODELS
    """Presets to compare."""
    max_time: str | None = None
    """Training of each run: CPU time, or on a GPU the wall's; by default 20m, 15s on the small phantom."""
    seeds: int | None = None
    """Runs of each network on the store's own splits; by default 3."""
    folds: int | None = None
    """Cross-validate on so many folds instead: the store's, or made of its cases."""
    flips: tuple[Axis, ...] = ()
    """Predict each case flipped along these axes too, in every combination: R A are those of training. Runs
    that --output has are not trained again."""

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            UserError: names the option.
        """
        self.settings  # noqa: B018 - which checks them

    @property
    def settings(self) -> PaperBenchmarkConfig:
        """The options as values."""
        if self.seeds is not None and self.folds is not None:
            raise UserError("--seeds and --folds", expected="one of them", found="both")
        hard = self.phantom == "hard"
        if self.data is not None and hard:
            raise UserError("--data and --phantom", expected="one of them", found="both")
        time = self.max_time or ("15s" if self.data is None and not hard else "20m")
        seeds = 3 if self.seeds is None else self.seeds
        return PaperBenchmarkConfig(self.models, parse_duration(time), seeds, self.folds, self.flips)

    def run(self, path: Path, command: str) -> None:
        """Train, evaluate, write and print."""
        from ossnet.benchmarks import measure_paper
        from ossnet.benchmarks.paper import output
        from ossnet.distributed.demo import open_hard_phantom, open_store

        path = path.with_name("-".join((path.name, *(("flips", *self.flips) if self.flips else ()))))
        found = measure_paper(
            self.settings,
            open_hard_phantom() if self.phantom == "hard" else open_store(self.data),
            path.with_suffix(".json"),
            command=command,
            progress=lambda row: logger.info(row.summary),
        )
        finish_benchmark(found, path, output.draw, output.show, json=self.json)


@dataclass(frozen=True)
class SimulateOptions(BenchOptions, SimulationConfig):
    """Wall time and GPU-hours of a study on up to 1,000 GPUs, simulated from the trials of a real one."""

    study: Path | None = None
    """The --output of an `ossnet tune` without early stopping, one trial at once."""
    check: tuple[Path, ...] = ()
    """The --output of other studies of the same trials, to compare the simulation with."""

    def run(self, path: Path, command: str) -> None:
        """Simulate, write and print."""
        from ossnet.distributed.benchmark.simulation import results
        from ossnet.distributed.benchmark.simulation.measure import measure_simulation

        if self.study is None:
            remedy = "run `ossnet tune --early-stopping.algorithm none --memory-budget 8GiB`, say, first"
            raise UserError("--study", expected="the folder of a study", found="none", remedy=remedy)
        settings = {each.name: getattr(self, each.name) for each in fields(SimulationConfig)}
        found = measure_simulation(
            SimulationConfig(**settings),
            self.study,
            checks=self.check,
            command=command,
            progress=lambda row: logger.info(row.summary),
        )
        finish_benchmark(found, path, results.draw, results.show, json=self.json)


_KINDS = {
    "models": ModelsOptions,
    "input": InputOptions,
    "memory": MemoryOptions,
    "classes": ClassesOptions,
    "resolution": ResolutionOptions,
    "inference": InferenceOptions,
    "methods": MethodsOptions,
    "scaling": ScalingOptions,
    "simulate": SimulateOptions,
    "search": SearchOptions,
    "paper": PaperOptions,
}
COMMANDS: dict[str, Command[Any]] = {
    name: Command(f"bench {name}", str(kind.__doc__), kind) for name, kind in _KINDS.items()
}


def main(arguments: Sequence[str]) -> None:
    """Run the benchmark that the first argument names."""
    word, command, rest = choose_command(COMMANDS, arguments)
    notes = () if arguments[:1] == [word] else (_overview(),)
    options = command.parse(rest, *notes)
    from ossnet.output.claim import claimed_output

    given = (getattr(options, name, None) for name in ("source", "data"))
    sources = [each for each in given if each is not None]
    with claimed_output(options.output or new_folder("bench"), "bench", sources=sources) as output:
        options.run(output / word, command_line("bench", *arguments))


def _demo() -> ModuleType:
    from ossnet.distributed import demo  # needs Ray, which predicting one's own cases does not

    return demo


def _overview() -> str:
    rows = ((f"bench {name}", each.text) for name, each in COMMANDS.items())
    return "benchmarks (each with a --help of its own):\n" + format_rows(rows)
