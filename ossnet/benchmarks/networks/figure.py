"""A comparison of networks as a picture."""

from typing import TYPE_CHECKING

from ossnet.benchmarks.config import shape_name
from ossnet.benchmarks.networks.results import ModelRow, ModelsResult
from ossnet.memory.peak import GIB
from ossnet.output.figure import png_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "os^vDPX<*"


def draw(result: ModelsResult) -> bytes:
    """Peak memory and seconds of a step against the resolution, a line a network, as PNG.

    Where memory did not suffice, the predicted peak is drawn hollow.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    memory, seconds = figure.subplots(1, 2)
    networks = dict.fromkeys(row.network for row in result.rows)
    for index, network in enumerate(networks):
        rows = sorted((row for row in result.rows if row.network == network), key=_edge)
        measured = [row for row in rows if row.status == "measured"]
        edges, marker, color = [_edge(row) for row in measured], _MARKERS[index % len(_MARKERS)], f"C{index}"
        memory.plot(edges, [_gib(row) for row in measured], color=color, marker=marker, label=network)
        for row in rows:
            if row.status == "out of memory":
                memory.plot(_edge(row), _gib(row), marker, color=color, markerfacecolor="none")
        if measured:
            seconds.plot(edges, [row.step_s for row in measured], color=color, marker=marker)
    _finish(memory, result, "peak memory of a training step (GiB)")
    _finish(seconds, result, "training step (s)")
    failed = any(row.status == "out of memory" for row in result.rows)
    figure.suptitle(_title(result) + ("\nhollow: out of memory, predicted peak" if failed else ""))
    figure.legend(*memory.get_legend_handles_labels(), loc="outside right upper")
    return png_bytes(figure)


def _edge(row: ModelRow) -> float:
    """Edge of the cube with the requested number of voxels."""
    x, y, z = row.shape
    return (x * y * z) ** (1 / 3)


def _gib(row: ModelRow) -> float:
    return (row.predicted_bytes if row.peak_bytes is None else row.peak_bytes) / GIB


def _finish(axes: "Axes", result: ModelsResult, quantity: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set(xscale="log", xlabel="volume (voxels)", ylabel=quantity)
    ticks = {_edge(row): shape_name(row.shape) for row in result.rows}
    axes.set_xticks(list(ticks), list(ticks.values()), rotation=30, ha="right")
    if axes.has_data():  # an empty axis has no logarithm
        axes.set_yscale("log")
        # Powers of ten alone would leave the axis bare, as it seldom spans two.
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)


def _title(result: ModelsResult) -> str:
    where = result.processor if result.device == "cpu" else result.device
    threads = f", threads: {result.threads}" if result.device == "cpu" else ""
    points = f"{result.points} points, batch {result.batch_size}"
    return f"{where}{threads}, {result.precision}, {points}"
