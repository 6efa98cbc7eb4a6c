"""The memory that configurations need, in the terminal and as a figure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ossnet.memory.peak import GIB
from ossnet.output.figure import png_bytes
from ossnet.output.tables import print_table
from ossnet.planning.budget import COMMON_GPUS
from ossnet.planning.estimate import MemoryEstimate, ScalingCurve
from ossnet.planning.margin import GB

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "os^"
_PARTS = (
    "parameters",
    "gradients",
    "optimizer_state",
    "batch",
    "next_batch",
    "device_cache",
    "volume",
    "encoder",
    "patches",
    "decoder",
    "network",
    "workspace",
    "maps",
)


def show(estimates: Sequence[MemoryEstimate]) -> None:
    """Print a row per configuration, the largest last."""
    measured = any(each.measured is not None for each in estimates)
    columns = ["network", "training GiB", "inference GiB", "needs GB", "smallest GPU"]
    if measured:
        columns.insert(3, "measured GiB")
    rows = []
    for each in sorted(estimates, key=lambda estimate: estimate.needed):
        cells = _cells(each)
        rows.append([*cells[:3], *([_measured(each)] if measured else []), *cells[3:]])
    print_table(columns, rows)


def show_parts(estimate: MemoryEstimate) -> None:
    """Print the parts of the predicted peaks of training and inference, in GiB."""
    peaks = {"training": estimate.training.parts, "inference": estimate.inference.parts}
    names = [part for part in _PARTS if any(parts.get(part, 0) for parts in peaks.values())]
    rows = [[peak, *(f"{parts.get(name, 0) / GIB:.3f}" for name in names)] for peak, parts in peaks.items()]
    print_table(["of it, GiB", *(name.replace("_", " ") for name in names)], rows)


def gpu_name(size: int | None) -> str:
    """The name of a GPU by its memory in bytes, as in `8 GB`; None means that no common GPU suffices."""
    return f"more than {COMMON_GPUS[-1] // GB} GB" if size is None else f"{size // GB} GB"


def plot_scaling(curves: Sequence[ScalingCurve]) -> bytes:
    """Plot the predicted peak of training against the resolution, a line per network, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for curve, marker in zip(curves, _MARKERS, strict=False):
        axes.plot(curve.edges, curve.gib, marker=marker, label=curve.network)
    _finish(axes, curves)
    return png_bytes(figure)


def _finish(axes: "Axes", curves: Sequence[ScalingCurve]) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    axes.set(xscale="log", yscale="log", xlabel="working grid (voxels)")
    axes.set_ylabel("predicted peak of a training step (GiB)")
    low, high = axes.get_ylim()
    for size in COMMON_GPUS:
        if low < size / GIB < high:
            axes.axhline(size / GIB, color="0.8", linewidth=0.8, zorder=0)
            axes.annotate(
                f"{size // GB} GB",
                (1, size / GIB),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                fontsize="x-small",
                color="0.5",
            )
    ticks = dict(zip(curves[-1].edges, curves[-1].shapes, strict=True))
    labels = ["x".join(map(str, shape)) for shape in ticks.values()]
    axes.set_xticks(list(ticks), labels, rotation=30, ha="right")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(alpha=0.3)
    axes.legend()


def _cells(estimate: MemoryEstimate) -> tuple[str, ...]:
    return (
        estimate.name,
        f"{estimate.training.allocated_gib:.3f}",
        f"{estimate.inference.allocated_gib:.3f}",
        f"{estimate.needed / GB:.2f}",
        gpu_name(estimate.gpu),
    )


def _measured(estimate: MemoryEstimate) -> str:
    return "" if estimate.measured is None else f"{estimate.measured.allocated_gib:.3f}"
