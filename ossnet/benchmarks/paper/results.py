"""The result of comparing networks: a row for each run, and what follows from them over cases."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from operator import attrgetter
from statistics import fmean
from typing import Literal, Self

from ossnet.benchmarks.paper.published import Dataset
from ossnet.benchmarks.result import BenchmarkResult, by_name
from ossnet.evaluation.comparison import Comparison, compare
from ossnet.evaluation.intervals import ConfidenceInterval, bootstrap_interval
from ossnet.inference.config import Axis

STATISTIC = (
    "Measures of a case are means over its classes, on full volumes of the working grid, and over the "
    "runs that predicted it; the mean over cases has its 95 % interval (BCa bootstrap over cases, seeds "
    "not resampled). Two networks are compared case by case over the runs that both have (Wilcoxon's "
    "signed-rank test, two-sided, not corrected for the number of pairs). A run trains for its time on "
    "the training cases alone, without validation, and its last weights are evaluated. Training peak: the"
    " measured peak of a step; inference peak: predicted for a volume of the working shape."
)
Measure = Literal["dice", "iou", "hd95_mm", "nsd"]


@dataclass(frozen=True)
class RunKey:
    """A run of the comparison."""

    network: str
    seed: int
    fold: int | None
    """The fold whose cases are evaluated; None: the validation split's."""

    def __str__(self) -> str:
        where = f"seed {self.seed}" if self.fold is None else f"fold {self.fold}"
        return f"{self.network}, {where}"

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return f"{self.network}-" + (f"seed{self.seed}" if self.fold is None else f"fold{self.fold}")


@dataclass(frozen=True)
class CaseRow:
    """The scores of a case, each the mean over its classes."""

    case: str
    dice: float
    iou: float
    hd95_mm: float
    nsd: float
    seconds: float
    """Seconds to predict it: of the CPU, or on a GPU those of the wall."""
    class_dice: dict[str, float]
    """Dice by class or region."""


@dataclass(frozen=True)
class RunRow:
    """A network that was trained and evaluated, or why it could not be."""

    key: RunKey
    options: str
    """Options of `ossnet train` that give its configuration."""
    parameters: int
    predicted_gib: float
    """Predicted peak of a training step."""
    inference_gib: float
    """Predicted peak of inference."""
    training_gib: float | None = None
    """Measured peak of a training step; None where none was."""
    training_s: float = 0.0
    """Seconds of training: of the CPU, or on a GPU those of the wall."""
    steps: int = 0
    cases: tuple[CaseRow, ...] = ()
    """The scores of the validation cases; none where the run failed."""
    error: str = ""
    """Why it failed."""

    @property
    def dice(self) -> float:
        """Mean Dice over cases."""
        return fmean(case.dice for case in self.cases)

    @property
    def summary(self) -> str:
        """A line of progress."""
        if self.error:
            return f"{self.key}: failed: {self.error}"
        nsd = fmean(case.nsd for case in self.cases)
        return (
            f"{self.key}: Dice {self.dice:.4f}, NSD {nsd:.4f} of {len(self.cases)} cases; "
            f"{self.training_gib:.3g} GiB, {self.steps} steps in {self.training_s:.0f} s"
        )


@dataclass(frozen=True)
class Mean:
    """A mean over cases."""

    value: float
    interval: ConfidenceInterval


@dataclass(frozen=True)
class NetworkSummary:
    """The runs of a network in numbers."""

    network: str
    runs: int
    measures: dict[Measure, Mean]
    lowest: float
    """Of the mean Dice of its runs."""
    highest: float
    parameters: int
    training_gib: float
    """The largest of its runs."""
    inference_gib: float
    seconds: float
    """Of a case, on average."""
    training_s: float
    """Of a run, on average."""
    steps: float

    @property
    def dice(self) -> float:
        """Mean Dice over cases."""
        return self.measures["dice"].value


@dataclass(frozen=True)
class PaperResult(BenchmarkResult):
    """All runs, and where and how they were made."""

    device: str
    """`cpu`, or the name of the GPU."""
    processor: str
    threads: int
    """Threads of torch."""
    versions: dict[str, str]
    commit: str | None
    """The git commit of ossnet, where it is known."""
    data: str
    """The cases, in words."""
    fingerprint: str
    """Of the store."""
    published: Dataset | None
    """The data set of the paper that the store is of."""
    time_s: float
    """Seconds of training of a run: of the CPU, or on a GPU those of the wall."""
    folds: int | None
    nsd_tolerance_mm: float
    statistic: str
    command: str
    rows: tuple[RunRow, ...]
    flips: tuple[Axis, ...] = ()
    """Axes along which cases were flipped too, predictions being averaged."""

    @property
    def clock(self) -> str:
        """What its seconds are of."""
        return "CPU s" if self.device == "cpu" else "GPU s"

    @property
    def finished(self) -> tuple[RunRow, ...]:
        """The runs that were evaluated."""
        return tuple(row for row in self.rows if not row.error)

    def with_row(self, row: RunRow) -> Self:
        """A copy with one more run."""
        return replace(self, rows=(*self.rows, row))

    def without_failed(self) -> Self:
        """A copy whose failed runs are to be made again."""
        return replace(self, rows=self.finished)

    def summary(self) -> dict[str, object]:
        """Human-readable rows."""
        failed = [row.summary for row in self.rows if row.error]
        flips = {"predictions": f"averaged over flips along {' '.join(self.flips)}"} if self.flips else {}
        lines: dict[str, object] = {
            "data": self.data,
            "runs": f"{len(self.rows)} of {self.time_s:.0f} {self.clock} each",
        }
        return lines | flips | ({"failed": "; ".join(failed)} if failed else {})

    def networks(self) -> list[NetworkSummary]:
        """A summary of each network, the highest Dice first."""
        groups = by_name(self.finished, key=lambda row: row.key.network)
        found = [_summarize(network, rows) for network, rows in groups.items()]
        return sorted(found, key=lambda each: -each.dice)

    def pairs(self) -> list[tuple[str, str, Comparison]]:
        """The difference in Dice of every two networks that have a run in common, the better one first."""
        groups = by_name(self.finished, key=lambda row: row.key.network)
        compared = []
        for one, other in combinations([each.network for each in self.networks()], 2):
            common = _runs(groups[one]) & _runs(groups[other])
            values, others = (
                case_means([row for row in groups[name] if _run(row) in common], "dice")
                for name in (one, other)
            )
            cases = sorted(values.keys() & others.keys())
            if cases:
                both = ([each[case] for case in cases] for each in (values, others))
                compared.append((one, other, compare(*both)))
        return compared


def case_means(rows: Sequence[RunRow], measure: Measure) -> dict[str, float]:
    """A measure of each case, averaged over the runs that predicted it."""
    values = by_name((case for row in rows for case in row.cases), key=attrgetter("case"))
    return {case: fmean(map(attrgetter(measure), scores)) for case, scores in values.items()}


def _mean(values: Mapping[str, float]) -> Mean:
    each = [values[case] for case in sorted(values)]
    return Mean(fmean(each), bootstrap_interval(each))


def _summarize(network: str, rows: Sequence[RunRow]) -> NetworkSummary:
    measures: tuple[Measure, ...] = ("dice", "iou", "hd95_mm", "nsd")
    return NetworkSummary(
        network=network,
        runs=len(rows),
        measures={measure: _mean(case_means(rows, measure)) for measure in measures},
        lowest=min(row.dice for row in rows),
        highest=max(row.dice for row in rows),
        parameters=rows[0].parameters,
        training_gib=max(row.training_gib or 0.0 for row in rows),
        inference_gib=max(row.inference_gib for row in rows),
        seconds=fmean(case.seconds for row in rows for case in row.cases),
        training_s=fmean(row.training_s for row in rows),
        steps=fmean(row.steps for row in rows),
    )


def _run(row: RunRow) -> tuple[int, int | None]:
    return row.key.seed, row.key.fold


def _runs(rows: Sequence[RunRow]) -> set[tuple[int, int | None]]:
    return set(map(_run, rows))
