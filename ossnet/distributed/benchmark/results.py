"""The result of comparing searches: its rows, table and figure."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

from ossnet.benchmarks.result import BenchmarkResult
from ossnet.output.figure import png_bytes
from ossnet.output.tables import print_table

CANDIDATE, BASELINE = "ossnet", "recipe"
STATISTIC = (
    "a trial's Dice is its last on the validation split, its seconds are the CPU time of its training "
    "process from the start of the training; searches are compared at the time that the shorter one took"
)
_BASELINES = {False: "recipe", True: "recipe, what is over budget ends with its first epoch"}


@dataclass(frozen=True)
class TrialRow:
    """A trial that started."""

    dice: float | None
    """Validation Dice; None where the trial ended before the first validation."""
    memory_gib: float | None
    """Measured peak of a training step."""
    cpu_s: float
    """CPU seconds of the training."""
    first_s: float
    """CPU seconds until the end of the first epoch, when its memory is known."""


@dataclass(frozen=True)
class SearchRow:
    """A study, with its trials in their order."""

    method: str
    """`ossnet`, or the `recipe`, which has no budget."""
    seed: int
    rejected: int
    """Suggestions that were predicted not to fit, and so never started."""
    trials: tuple[TrialRow, ...]

    @property
    def summary(self) -> str:
        """A line of progress."""
        spent = sum(trial.cpu_s for trial in self.trials)
        return f"{self.method}, seed {self.seed}: {len(self.trials)} trials, {spent:.0f} CPU s of training"


@dataclass(frozen=True)
class PairedComparison:
    """Both searches of one seed at equal training time."""

    baseline: str
    """The recipe as it is, or as if its device had no more memory than the budget."""
    seed: int
    cpu_s: float
    """The training time at which they are compared."""
    candidate_dice: float | None
    """Best feasible Dice of our search by then."""
    baseline_dice: float | None
    """Best feasible Dice of the baseline by then."""


@dataclass(frozen=True)
class SearchBenchmarkResult(BenchmarkResult):
    """All studies, and where and how they were run."""

    processor: str
    versions: dict[str, str]
    space: str
    budget_gib: float
    fitting_fraction: float
    """Fraction of random configurations that are predicted to fit the budget."""
    trials: int
    statistic: str
    command: str
    rows: tuple[SearchRow, ...]

    def summary(self) -> dict[str, object]:
        """Human-readable rows."""
        return {"studies": len(self.rows)}

    def feasible(self, trial: TrialRow) -> bool:
        """Whether a trial measured within the budget; one that ended before it was measured did not."""
        return trial.memory_gib is not None and trial.memory_gib <= self.budget_gib

    def curve(self, row: SearchRow, *, capped: bool = False) -> list[tuple[float, float | None]]:
        """Training seconds at the end of each trial, and the best feasible Dice by then.

        Args:
            capped: count a trial over the budget as if it had ended with its first epoch.
        """
        pairs = [(trial, self.feasible(trial)) for trial in row.trials]
        ends = accumulate(trial.first_s if capped and not fits else trial.cpu_s for trial, fits in pairs)
        dice = [trial.dice if fits else None for trial, fits in pairs]
        return list(zip(ends, accumulate(dice, _better), strict=True))

    def comparisons(self) -> Iterator[PairedComparison]:
        """Compare our search with the recipe of the same seed."""
        candidates = {row.seed: self.curve(row) for row in self.rows if row.method == CANDIDATE}
        for capped, name in _BASELINES.items():
            for row in self.rows:
                if row.method == BASELINE:
                    candidate, baseline = candidates[row.seed], self.curve(row, capped=capped)
                    until = min(candidate[-1][0], baseline[-1][0])
                    yield PairedComparison(
                        name, row.seed, until, _best_by(candidate, until), _best_by(baseline, until)
                    )


def show(result: SearchBenchmarkResult) -> None:
    """Print a row a study, then a row a comparison."""
    columns = ["search", "seed", "started", "feasible", "fraction", "rejected", "CPU s", "best feasible Dice"]
    studies = sorted(result.rows, key=lambda each: (each.method, each.seed))
    print_table(columns, (_cells(result, row) for row in studies))
    print()
    columns = ["best feasible Dice at equal training time against", "seed", "CPU s", "ossnet", "baseline"]
    print_table(
        columns,
        (
            [
                each.baseline,
                str(each.seed),
                f"{each.cpu_s:.0f}",
                _text(each.candidate_dice),
                _text(each.baseline_dice),
            ]
            for each in result.comparisons()
        ),
    )


def _cells(result: SearchBenchmarkResult, row: SearchRow) -> list[str]:
    feasible = sum(map(result.feasible, row.trials))
    spent, best = result.curve(row)[-1]
    counts = (row.seed, len(row.trials), feasible, f"{feasible / len(row.trials):.0%}", row.rejected)
    return [row.method, *map(str, counts), f"{spent:.0f}", _text(best)]


def draw(result: SearchBenchmarkResult) -> bytes:
    """Draw the best feasible Dice against training seconds as PNG, a line for each study."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    methods = list(dict.fromkeys(row.method for row in result.rows))
    for row in result.rows:
        points = [point for point in result.curve(row) if point[1] is not None]
        label = row.method if row.seed == min(each.seed for each in result.rows) else None
        axes.step(*zip(*points, strict=True) if points else ([], []), where="post", label=label,
                  color=f"C{methods.index(row.method)}")  # fmt: skip
    axes.set(xlabel="training (CPU seconds)", ylabel="best feasible Dice on the validation split")
    axes.grid(alpha=0.3)
    axes.legend()
    budget = f"budget {result.budget_gib * 1024:.3g} MiB, met by {result.fitting_fraction:.0%} of the space"
    figure.suptitle(f"{result.trials} trials a study, {budget}; {result.processor}")
    return png_bytes(figure)


def _better(one: float | None, other: float | None) -> float | None:
    known = [value for value in (one, other) if value is not None]
    return max(known, default=None)


def _best_by(curve: list[tuple[float, float | None]], until: float) -> float | None:
    return next((dice for end, dice in reversed(curve) if end <= until), None)


def _text(dice: float | None) -> str:
    return "none" if dice is None else f"{dice:.3f}"
