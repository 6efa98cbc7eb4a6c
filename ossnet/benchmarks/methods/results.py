"""The result of a comparison of methods on trained networks, and how it is stored and shown."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from ossnet.benchmarks.config import KernelPrecision, Shape
from ossnet.benchmarks.result import BenchmarkResult, by_name
from ossnet.output.figure import png_bytes
from ossnet.output.tables import print_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STATISTIC = (
    "each case once, after a prediction to warm up; components and voxels are compared with the same "
    "network's dense prediction: a component is lost of which no voxel is left in its class"
)
_COLUMNS = (
    "network", "method", "precision", "cases", "Dice", "decided", "components", "lost", "differ", "s a case",
)  # fmt: skip
_MARKERS = "osD^vP"


@dataclass(frozen=True)
class MethodRow:
    """One case, predicted by one network and method."""

    checkpoint: str
    """Name of the checkpoint's folder."""
    network: str
    case: str
    shape: Shape
    """Voxels of the case."""
    method: str
    """A method of `InferenceConfig`, or `windows` of a U-Net."""
    precision: KernelPrecision
    dice: float
    """Mean over the classes, against the label."""
    seconds: float
    """Seconds of the prediction, of the result's clock."""
    decided: int
    """Voxels that the network decided."""
    foreground: int
    """Voxels of any class in the dense prediction."""
    differing: int
    """Voxels whose decision is another than in the dense prediction."""
    components: int
    """26-connected components of the dense prediction, of all classes."""
    lost: int
    """Those of which nothing is left."""

    @property
    def voxels(self) -> int:
        """Voxels of the case."""
        return self.shape[0] * self.shape[1] * self.shape[2]


@dataclass(frozen=True)
class MethodsResult(BenchmarkResult):
    """All rows, with the machine and the settings of the measurement."""

    device: str
    processor: str
    threads: int
    clock: str
    """What the seconds are of."""
    versions: dict[str, str]
    commit: str | None
    statistic: str
    command: str
    rows: tuple[MethodRow, ...]

    def summary(self) -> dict[str, object]:
        """Human-readable rows."""
        return {"rows": len(self.rows), "seconds": self.clock}

    @property
    def groups(self) -> list[Sequence[MethodRow]]:
        """Rows of one network, method and precision, in the order of their first."""
        return list(
            by_name(
                self.rows, key=lambda row: f"{row.checkpoint} {row.network} {row.precision} {row.method}"
            ).values()
        )


def summary(row: MethodRow) -> str:
    """A row in a line, for progress."""
    what = f"{row.checkpoint} {row.case} {row.method} {row.precision}"
    return f"{what}: Dice {row.dice:.4f}, {row.lost} of {row.components} components lost, {row.seconds:.3g} s"


def show(result: MethodsResult) -> None:
    """Print a row per network, method and precision, over its cases."""
    print_table(_COLUMNS, map(_cells, result.groups), left=3)


def _cells(rows: Sequence[MethodRow]) -> Iterator[str]:
    first, foreground = rows[0], sum(row.foreground for row in rows)
    yield from (_name(first), first.method, first.precision, str(len(rows)))
    yield f"{fmean(row.dice for row in rows):.4f}"
    yield f"{sum(row.decided for row in rows) / sum(row.voxels for row in rows):.2%}"
    yield from (str(sum(row.components for row in rows)), str(sum(row.lost for row in rows)))
    yield f"{sum(row.differing for row in rows) / max(foreground, 1):.3%}"
    yield f"{fmean(row.seconds for row in rows):.3g}"


def _name(row: MethodRow) -> str:
    """The checkpoint, and its network where that is called otherwise."""
    return row.checkpoint if row.network in row.checkpoint else f"{row.network} ({row.checkpoint})"


def draw(result: MethodsResult) -> bytes:
    """Mean Dice over seconds a case, a color a network and a marker a method, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    axes: Axes = figure.subplots()
    names = list(dict.fromkeys(_name(row) for row in result.rows))
    methods = list(dict.fromkeys(row.method for row in result.rows))
    for rows in result.groups:
        first = rows[0]
        axes.plot(
            fmean(row.seconds for row in rows),
            fmean(row.dice for row in rows),
            color=f"C{names.index(_name(first))}",
            marker=_MARKERS[methods.index(first.method)],
            fillstyle="none" if first.precision == "float32" else "full",
            linestyle="none",
            label=f"{_name(first)}, {first.method}, {first.precision}",
        )
    axes.set(xscale="log", xlabel=f"{result.clock} a case", ylabel="mean Dice")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    figure.legend(loc="outside lower center", ncols=2, fontsize="small", frameon=False)
    axes.grid(alpha=0.3)
    figure.suptitle(f"{result.processor}, threads: {result.threads}")
    return png_bytes(figure, dpi=120)
