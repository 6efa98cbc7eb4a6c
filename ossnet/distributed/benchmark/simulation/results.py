"""The result of simulating studies: its rows, tables and figure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ossnet.benchmarks.result import BenchmarkResult
from ossnet.distributed.benchmark.simulation.comparison import ComparedStudy
from ossnet.distributed.benchmark.simulation.config import SimulationConfig
from ossnet.output.duration import counted, format_duration
from ossnet.output.figure import png_bytes
from ossnet.output.palette import color
from ossnet.output.tables import print_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HOUR_S = 3600


@dataclass(frozen=True)
class Measured:
    """The measured trials in numbers, before they were scaled."""

    trials: int
    mean_s: float
    """Of training and validation."""
    longest_s: float
    start_s: float
    """Mean of what a trial holds its place for besides."""
    restart_s: float
    """The longest of these, taken for a trial that starts again after a loss."""
    mean_gib: float
    largest_gib: float


@dataclass(frozen=True)
class SimulationRow:
    """A simulated study."""

    gpus: int
    shares: bool
    """Whether trials share GPUs by their predicted memory."""
    busy: float
    """The assumed share of its time that a trial alone keeps a GPU busy; of no effect without sharing."""
    early_stopping: bool
    losses_per_hour: float
    wall_h: float
    """Hours from the first start to the last end."""
    gpu_h: float
    """Hours with a trial on a GPU, over all GPUs."""
    trained_h: float
    """Hours of training at full speed, over all trials, each counted once."""
    repeated_h: float
    """Hours of training that were lost with a node."""
    stopped: int
    """Trials that were stopped early."""
    losses: int
    """How often a trial was lost with its node."""
    failed: int
    """Trials that were lost too often."""
    most_at_once: int
    """Trials on a GPU, at most."""
    most_gib: float
    """Memory that trials on a GPU are predicted to need with their margins, at most."""

    @property
    def placing(self) -> str:
        """How trials are placed, in words."""
        return f"GPUs shared (a trial keeps one {self.busy:.0%} busy)" if self.shares else "whole GPUs"

    @property
    def summary(self) -> str:
        """A line of progress."""
        parts = [counted(self.gpus, "GPU"), self.placing]
        parts += ["early stopping"] if self.early_stopping else []
        parts += [f"{self.losses_per_hour:g} losses an hour"] if self.losses_per_hour else []
        wall = format_duration(self.wall_h * _HOUR_S)
        return f"{', '.join(parts)}: {wall}, {self.gpu_h:.4g} GPU-hours"


@dataclass(frozen=True)
class SimulationResult(BenchmarkResult):
    """All simulated studies, and what they were fed with."""

    versions: dict[str, str]
    commit: str | None
    """The git commit of ossnet, where it is known."""
    command: str
    settings: SimulationConfig
    measured: Measured
    compared: tuple[ComparedStudy, ...]
    """Real studies of the measured trials, next to simulations of them."""
    rows: tuple[SimulationRow, ...]

    def summary(self) -> dict[str, object]:
        """Human-readable rows."""
        each = self.measured
        fed = f"{counted(each.trials, 'trial')} of {format_duration(each.mean_s)} and {each.mean_gib:.3g} GiB"
        errors = ", ".join(f"{found.error:+.1%}" for found in self.compared)
        rows: dict[str, object] = {"fed with": f"{fed} in the mean"}
        return rows | ({"off by": errors} if errors else {})


def show(result: SimulationResult) -> None:
    """Print a row a simulated study, and a row a real one."""
    columns = ["GPUs", "trials have", "early stopping", "losses an hour", "hours", "GPU-hours"]
    columns += ["stopped", "lost", "failed", "at once on a GPU", "GiB of a GPU"]
    print_table(columns, map(_cells, result.rows), left=3)
    if result.compared:
        print()
        columns = ["real study", "early stopping", "at once", "pace", "seconds", "simulated", "off by"]
        columns += ["stopped", "simulated"]
        print_table(columns, map(_compared_cells, result.compared), left=2)


def _cells(row: SimulationRow) -> list[str]:
    return [
        str(row.gpus),
        row.placing,
        "yes" if row.early_stopping else "no",
        f"{row.losses_per_hour:g}",
        f"{row.wall_h:.4g}",
        f"{row.gpu_h:.4g}",
        *map(str, (row.stopped, row.losses, row.failed, row.most_at_once)),
        f"{row.most_gib:.3g}",
    ]


def _compared_cells(each: ComparedStudy) -> list[str]:
    return [
        each.study,
        each.algorithm,
        str(each.at_once),
        f"{each.pace:.3g}",
        f"{each.measured_wall_s:.4g}",
        f"{each.simulated_wall_s:.4g}",
        f"{each.error:+.1%}",
        " ".join(map(str, each.measured_stopped)) or "none",
        " ".join(map(str, each.simulated_stopped)) or "none",
    ]


def draw(result: SimulationResult) -> bytes:
    """Draw hours and GPU-hours against the number of GPUs as PNG: a row the fewest losses, one the most."""
    from matplotlib.figure import Figure

    rates = sorted({min(result.settings.losses), max(result.settings.losses)})
    figure = Figure(figsize=(9, 0.6 + 3.4 * len(rates)), layout="constrained")
    panels = figure.subplots(len(rates), 2, squeeze=False, sharex=True, sharey="col")
    for (wall, cost), rate in zip(panels, rates, strict=True):
        rows = [row for row in result.rows if row.losses_per_hour == rate]
        losses = f"a node is lost {rate:g} times an hour" if rate else "no node is lost"
        _plot(wall, rows, "wall_h")
        _plot(cost, rows, "gpu_h")
        wall.set(title=f"Wall time, {losses}", ylabel="hours")
        cost.set(title=f"GPU-hours, {losses}", ylabel="hours with a trial on a GPU")
    for axes in panels[-1]:
        axes.set(xlabel="GPUs")
    figure.suptitle(_title(result), fontsize="medium")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    return png_bytes(figure)


def _plot(axes: "Axes", rows: Iterable[SimulationRow], name: str) -> None:
    lines: dict[tuple[str, bool], list[SimulationRow]] = {}
    for row in rows:
        lines.setdefault((row.placing, row.early_stopping), []).append(row)
    places = {placing: place for place, placing in enumerate(dict.fromkeys(placing for placing, _ in lines))}
    for (placing, stops), points in lines.items():
        axes.plot(
            [row.gpus for row in points],
            [getattr(row, name) for row in points],
            "o--" if stops else "o-",
            color=color(places[placing]),
            markersize=4,
            label=placing + (", early stopping" if stops else ""),
        )
    for scale, axis in ((axes.set_xscale, axes.xaxis), (axes.set_yscale, axes.yaxis)):
        scale("log")
        axis.set_major_formatter("{x:,.0f}")
    axes.grid(visible=True, which="major", alpha=0.3)


def _title(result: SimulationResult) -> str:
    settings, measured = result.settings, result.measured
    time = format_duration((settings.trial_hours or measured.mean_s / _HOUR_S) * _HOUR_S)
    gib = settings.trial_gib or measured.mean_gib
    return (
        f"Simulated: {settings.trials:,} trials of {time} and {gib:.3g} GiB in the mean,\n"
        f"on nodes of {counted(settings.cpus, 'CPU')} and a GPU of {settings.gpu_gib:g} GiB"
    )
