"""The result of comparing searches: its rows, table and figure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Self

from ossnet.benchmarks.result import BenchmarkResult, by_name
from ossnet.output.figure import png_bytes
from ossnet.output.tables import print_table

STATISTIC = (
    "Dice: the best of all validations of feasible trials by then, on half of the validation cases at least, "
    "0 without one; its median over seeds, in brackets the lowest and the highest. Seconds: CPU time of "
    "training, validation and search in one process on one thread. Feasible: the measured peak of a training "
    "step is within the budget; a trial above it ends when it is measured, at its second step."
)


@dataclass(frozen=True)
class Validation:
    """A validation; one at the end of the time may not come to all cases."""

    at_s: float
    """CPU seconds of the study by then."""
    dice: float
    cases: int
    """Cases that it saw."""


@dataclass(frozen=True)
class TrialRow:
    """A trial that started."""

    network: str
    cpu_s: float
    """CPU seconds of training and validation."""
    memory_gib: float | None
    """Measured peak of a training step; None where it ended before."""
    end: str
    """How it ended."""
    validations: tuple[Validation, ...]


@dataclass(frozen=True)
class StudyRow:
    """A study, with its trials in their order."""

    method: str
    seed: int
    cpu_s: float
    """CPU seconds in all."""
    search_s: float
    """Those of them that the method took: to sample, to predict memory, to learn."""
    refused: int
    """Suggestions that never started, as they were predicted to be too large."""
    trials: tuple[TrialRow, ...]

    @property
    def summary(self) -> str:
        """A line of progress."""
        return (
            f"{self.method}, seed {self.seed}: {len(self.trials)} trials, {self.cpu_s:.0f} CPU s, "
            f"{self.search_s:.0f} of them search"
        )


@dataclass(frozen=True)
class MethodSummary:
    """The studies of a method in numbers."""

    method: str
    at_half: tuple[float, float, float]
    """Median, lowest and highest Dice over seeds at half of the time."""
    at_end: tuple[float, float, float]
    """The same at the whole of it."""
    started: float
    """Trials of a study, on average."""
    feasible: float
    """Fraction of the measured trials that is feasible."""
    cpu_s: float
    """CPU seconds of a study, on average."""
    search_s: float
    """Those of the search."""
    infeasible_s: float
    """Those of infeasible trials."""
    refused: float
    """Suggestions that never started, on average."""


@dataclass(frozen=True)
class SearchBenchmarkResult(BenchmarkResult):
    """All studies, and where and how they were run."""

    processor: str
    versions: dict[str, str]
    data: str
    """What is searched on, in words."""
    validation_cases: int
    fingerprint: str
    """Of the store."""
    space: str
    budget_gib: float
    fitting_fraction: float
    """Fraction of random configurations that is predicted to fit the budget as it is resolved."""
    time_s: float
    """CPU seconds of a study."""
    plan: str
    """How they are planned to be spent."""
    statistic: str
    command: str
    rows: tuple[StudyRow, ...]

    def summary(self) -> dict[str, object]:
        """Human-readable rows."""
        return {"data": self.data, "budget": f"{self.budget_gib:.3g} GiB", "studies": len(self.rows)}

    def with_row(self, row: StudyRow) -> Self:
        """A copy with one more study."""
        return replace(self, rows=(*self.rows, row))

    def is_feasible(self, trial: TrialRow) -> bool:
        """Whether a trial was measured within the budget."""
        return trial.memory_gib is not None and trial.memory_gib <= self.budget_gib

    def best_by(self, row: StudyRow, seconds: float) -> float:
        """The best feasible Dice within so many CPU seconds, on half of the cases at least; 0 without one."""
        points = [each for trial in row.trials if self.is_feasible(trial) for each in trial.validations]
        known = [each for each in points if 2 * each.cases >= self.validation_cases]
        return max((each.dice for each in known if each.at_s <= seconds), default=0.0)

    def methods(self) -> Iterator[MethodSummary]:
        """A summary of each method."""
        for method, rows in by_name(self.rows, key=lambda row: row.method).items():
            trials = [trial for row in rows for trial in row.trials if trial.memory_gib is not None]
            feasible = [self.is_feasible(trial) for trial in trials]
            wasted = sum(trial.cpu_s for trial, fits in zip(trials, feasible, strict=True) if not fits)
            yield MethodSummary(
                method=method,
                at_half=_spread([self.best_by(row, self.time_s / 2) for row in rows]),
                at_end=_spread([self.best_by(row, self.time_s) for row in rows]),
                started=fmean(len(row.trials) for row in rows),
                feasible=fmean(feasible) if feasible else 0.0,
                cpu_s=fmean(row.cpu_s for row in rows),
                search_s=fmean(row.search_s for row in rows),
                infeasible_s=wasted / len(rows),
                refused=fmean(row.refused for row in rows),
            )


def show(result: SearchBenchmarkResult) -> None:
    """Print a row a method."""
    columns = ["search", "Dice at half", "Dice at the whole", "trials", "feasible", "CPU s", "of it search"]
    columns += ["on infeasible", "refused before"]
    print_table(columns, (_cells(each) for each in result.methods()))


def _cells(each: MethodSummary) -> list[str]:
    wasted = f"{each.infeasible_s:.0f} ({each.infeasible_s / max(each.cpu_s, 1e-9):.0%})"
    counts = [f"{each.started:.1f}", f"{each.feasible:.0%}", f"{each.cpu_s:.0f}", f"{each.search_s:.0f}"]
    return [each.method, _text(each.at_half), _text(each.at_end), *counts, wasted, f"{each.refused:.1f}"]


def draw(result: SearchBenchmarkResult) -> bytes:
    """Draw the best feasible Dice against CPU seconds as PNG: each method's median, between its extremes."""
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    seconds = np.linspace(0, result.time_s, 301)
    for method, rows in by_name(result.rows, key=lambda row: row.method).items():
        spread = np.array([_spread([result.best_by(row, at) for row in rows]) for at in seconds])
        (line,) = axes.step(seconds, spread[:, 0], where="post", label=f"{method}, {len(rows)} seeds")
        axes.fill_between(
            seconds, spread[:, 1], spread[:, 2], step="post", alpha=0.15, color=line.get_color()
        )
    axes.axvline(result.time_s / 2, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="CPU seconds of the study", ylabel="best feasible Dice on the validation cases")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    budget = f"budget {result.budget_gib:.3g} GiB, met by {result.fitting_fraction:.0%} of {result.space}"
    figure.suptitle(f"{result.data}; {budget}\nmedian, lowest and highest over seeds; {result.processor}")
    return png_bytes(figure)


def _spread(values: Sequence[float]) -> tuple[float, float, float]:
    return median(values), min(values), max(values)


def _text(spread: tuple[float, float, float]) -> str:
    middle, low, high = spread
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"
