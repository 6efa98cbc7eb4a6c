"""A comparison of networks as a picture."""

import io
from itertools import cycle
from typing import TYPE_CHECKING

from ossnet.benchmarks.results import ModelRow, ModelsResult
from ossnet.benchmarks.settings import shape_name
from ossnet.memory.peak import GIB

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "os^vDPX"


def draw(result: ModelsResult) -> bytes:
    """Peak memory and seconds of a step against the resolution, a line a network, as PNG.

    Where memory did not suffice, the predicted peak is drawn hollow.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    memory, seconds = figure.subplots(1, 2)
    networks = dict.fromkeys(row.network for row in result.rows)
    for network, marker in zip(networks, cycle(_MARKERS), strict=False):
        rows = sorted((row for row in result.rows if row.network == network), key=_edge)
        measured = [row for row in rows if row.status == "measured"]
        edges, peaks = [_edge(row) for row in measured], [_gib(row) for row in measured]
        (line,) = memory.plot(edges, peaks, marker=marker, alpha=0.85, label=network)
        colour = line.get_color()
        for row in rows:
            if row.status == "out of memory":
                memory.plot(_edge(row), _gib(row), marker, color=colour, markerfacecolor="none")
        steps = [row.step_s for row in measured]
        seconds.plot(edges, steps, marker=marker, alpha=0.85, color=colour)
    _finish(memory, result, "peak memory of a training step (GiB)")
    _finish(seconds, result, "training step (s)")
    failed = any(row.status == "out of memory" for row in result.rows)
    figure.suptitle(_title(result) + ("\nhollow: out of memory, predicted peak" if failed else ""))
    figure.legend(*memory.get_legend_handles_labels(), loc="outside right upper")
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=150)
    return sink.getvalue()


def _edge(row: ModelRow) -> float:
    """Edge of the cube with as many voxels as were asked for."""
    x, y, z = row.shape
    return (x * y * z) ** (1 / 3)


def _gib(row: ModelRow) -> float:
    return (row.predicted_bytes if row.peak_bytes is None else row.peak_bytes) / GIB


def _finish(axes: "Axes", result: ModelsResult, quantity: str) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    axes.set(xscale="log", yscale="log", xlabel="volume (voxels)", ylabel=quantity)
    ticks = {_edge(row): shape_name(row.shape) for row in result.rows}
    axes.set_xticks(list(ticks), list(ticks.values()), rotation=30, ha="right")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
    low, high = axes.get_ylim()
    # Over less than a decade or two, powers of ten alone would leave the axis bare.
    axes.yaxis.set_minor_formatter(axes.yaxis.get_major_formatter() if high / low < 20 else NullFormatter())
    axes.grid(alpha=0.3, which="both")


def _title(result: ModelsResult) -> str:
    where = result.processor if result.device == "cpu" else result.device
    threads = f", threads: {result.threads}" if result.device == "cpu" else ""
    points = f"{result.points} points, batch {result.batch_size}"
    return f"{where}{threads}, {result.precision}, {points}"
