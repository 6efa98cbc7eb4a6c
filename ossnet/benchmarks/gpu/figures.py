"""Figures of the check of a GPU."""

from typing import TYPE_CHECKING

from ossnet.benchmarks.gpu.results import GpuResult, StepRow
from ossnet.memory.peak import GIB
from ossnet.output.figure import png_bytes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "os^vDPX<*"


def draw_memory(result: GpuResult) -> bytes:
    """Needed against predicted memory, a marker a network, with the fitted margin, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for index, network in enumerate(dict.fromkeys(row.network for row in result.peaks)):
        rows = [row for row in result.peaks if row.network == network]
        predicted = [row.predicted_bytes / GIB for row in rows]
        marker = _MARKERS[index % len(_MARKERS)]
        needed = [row.needed_bytes / GIB for row in rows]
        points = axes.scatter(predicted, needed, marker=marker, s=26, label=network)
        allocated = [row.allocated_bytes / GIB for row in rows]
        axes.scatter(predicted, allocated, marker=marker, s=10, alpha=0.5, color=points.get_facecolor())
    _lines(axes, result)
    axes.set(xlabel="predicted peak (GiB)", ylabel="GiB: needed (large), allocated (small)")
    axes.set(xscale="log", yscale="log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.suptitle(result.device)
    return png_bytes(figure)


def _lines(axes: "Axes", result: GpuResult) -> None:
    sizes = sorted(row.predicted_bytes for row in result.peaks)
    plain = [size / GIB for size in sizes]
    axes.plot(plain, plain, color="0.7", linewidth=0.8, zorder=0)
    if result.margin is not None:
        needed = [result.margin.needed(size) / GIB for size in sizes]
        axes.plot(plain, needed, color="0.4", linewidth=0.8, zorder=0, label=f"{result.margin}")


def draw_times(result: GpuResult) -> bytes:
    """Seconds of a training step, its wait for data apart, and of predicting a volume, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    training, prediction = figure.subplots(2, 1)
    names = [_step_name(row) for row in result.steps]
    waits = [row.step_s * row.wait_fraction for row in result.steps]
    work = [row.step_s - wait for row, wait in zip(result.steps, waits, strict=True)]
    training.barh(names, work, label="work")
    training.barh(names, waits, left=work, label="waiting for data")
    training.set(xlabel="seconds a step")
    training.legend()
    volumes = [f"{row.network}, {row.precision}" for row in result.volumes]
    prediction.barh(volumes, [row.seconds for row in result.volumes])
    prediction.set(xlabel="seconds a volume predicted")
    figure.suptitle(result.device)
    return png_bytes(figure)


def _step_name(row: StepRow) -> str:
    parts = [row.network, row.precision]
    if row.steps_per_batch > 1:
        parts.append(f"{row.steps_per_batch} steps a batch")
    if row.device_cache_gib:
        parts.append("volumes kept")
    return ", ".join(parts)
