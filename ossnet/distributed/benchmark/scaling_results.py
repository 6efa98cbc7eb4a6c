"""The result of comparing numbers of workers: its rows, table and figure."""

from dataclasses import dataclass
from statistics import median

from ossnet.benchmarks.result import BenchmarkResult, by_name
from ossnet.output.duration import counted
from ossnet.output.figure import png_bytes
from ossnet.output.tables import print_table

STATISTIC = (
    "CPU seconds (user and system, all threads) of the training processes a step, without start, the first "
    "steps, validation and checkpoints; summed over the workers of a training. Efficiency: those of the "
    "first number of workers, divided by those of another in the same repeat; its median over repeats, in "
    "brackets the lowest and the highest. Where a training has fewer workers, more trainings run side by "
    "side, so that as many processes are busy in every row. Speed: the same ratio of seconds of the wall"
)


@dataclass(frozen=True)
class ScalingRow:
    """The trainings of a repeat that have the same number of workers."""

    workers: int
    trainings: int
    """Trainings side by side."""
    repeat: int
    cpu_s: float
    """CPU seconds a step, summed over the workers of a training; the mean over trainings."""
    wall_s: float
    """Seconds a step; the mean over trainings."""

    @property
    def summary(self) -> str:
        """A line of progress."""
        workers = counted(self.workers, "worker")
        return f"{workers}, repeat {self.repeat + 1}: {self.cpu_s:.3g} CPU s a step, {self.wall_s:.3g} s"


@dataclass(frozen=True)
class Ratio:
    """A ratio over repeats."""

    median: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        return f"{self.median:.3f} ({self.lowest:.3f} to {self.highest:.3f})"


@dataclass(frozen=True)
class WorkersSummary:
    """A number of workers in numbers."""

    workers: int
    trainings: int
    cpu_s: float
    """CPU seconds a step, the median over repeats."""
    wall_s: float
    efficiency: Ratio
    speed: Ratio


@dataclass(frozen=True)
class ScalingResult(BenchmarkResult):
    """All rows, and where and how they were measured."""

    processor: str
    cpus: int
    """CPUs of this machine, threads of one core counted each."""
    versions: dict[str, str]
    commit: str | None
    """The git commit of ossnet, where it is known."""
    data: str
    """What is trained on, in words."""
    fingerprint: str
    """Of the store."""
    model: str
    parameters: int
    batch_size: int
    steps: int
    """Measured steps of each training."""
    statistic: str
    command: str
    rows: tuple[ScalingRow, ...]

    def summary(self) -> dict[str, object]:
        """Human-readable rows."""
        first, *others = self.numbers()
        found = ", ".join(f"{each.efficiency} with {counted(each.workers, 'worker')}" for each in others)
        return {"data": self.data, "efficiency": f"{found}, against {first.workers}"}

    def numbers(self) -> list[WorkersSummary]:
        """A summary of each number of workers, in the order of rows."""
        groups = by_name(self.rows, key=lambda row: f"{row.workers}")
        baseline = next(iter(groups.values()))
        return [_summarize(baseline, rows) for rows in groups.values()]


def _summarize(baseline: list[ScalingRow], rows: list[ScalingRow]) -> WorkersSummary:
    pairs = list(zip(baseline, rows, strict=True))
    return WorkersSummary(
        workers=rows[0].workers,
        trainings=rows[0].trainings,
        cpu_s=median(row.cpu_s for row in rows),
        wall_s=median(row.wall_s for row in rows),
        efficiency=_ratio([before.cpu_s / row.cpu_s for before, row in pairs]),
        speed=_ratio([before.wall_s / row.wall_s for before, row in pairs]),
    )


def _ratio(values: list[float]) -> Ratio:
    return Ratio(median(values), min(values), max(values))


def show(result: ScalingResult) -> None:
    """Print a row a number of workers."""
    columns = ["workers", "trainings at a time", "CPU s a step", "efficiency", "s a step", "speed"]
    print_table(columns, (_cells(each) for each in result.numbers()))


def _cells(each: WorkersSummary) -> list[str]:
    seconds = f"{each.cpu_s:.3g}", f"{each.wall_s:.3g}"
    return [
        str(each.workers),
        str(each.trainings),
        seconds[0],
        str(each.efficiency),
        seconds[1],
        str(each.speed),
    ]


def draw(result: ScalingResult) -> bytes:
    """Draw CPU seconds a step against the number of workers as PNG: a bar the median, a point a repeat."""
    from matplotlib.figure import Figure

    numbers = result.numbers()
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    places = {each.workers: place for place, each in enumerate(numbers)}
    bars = axes.bar(list(places.values()), [each.cpu_s for each in numbers], width=0.6, alpha=0.5)
    axes.bar_label(bars, [f"efficiency {each.efficiency.median:.3f}" for each in numbers], padding=14)
    x, y = [places[row.workers] for row in result.rows], [row.cpu_s for row in result.rows]
    axes.plot(x, y, "o", color="black", markersize=4)
    axes.set_xticks(list(places.values()), [str(workers) for workers in places])
    axes.set(xlabel="workers", ylabel="CPU seconds a step, over all workers")
    axes.margins(y=0.2)
    figure.suptitle(
        f"{result.model}, {result.batch_size} volumes a step\n{result.data}; {result.processor}",
        fontsize="medium",
    )
    return png_bytes(figure)
