"""The result of a comparison of inference methods, and how it is stored and shown."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ossnet.benchmarks.config import KernelPrecision, shape_name
from ossnet.benchmarks.machine import rates
from ossnet.benchmarks.result import BenchmarkResult
from ossnet.output.figure import png_bytes
from ossnet.output.tables import print_table
from ossnet.sampling.grid import Shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STATISTIC = (
    "CPU seconds of the fastest prediction after a warm-up, a fresh process a row; every point passes "
    "through the whole network, and answers are those of an ellipsoid"
)
WINDOWS = "windows"
_COLUMNS = (
    "network", "shape", "method", "precision", "CPU s", "points", "points/s", "wrong", "peak MiB",
    "added MiB", "x plain", "x guided",
)  # fmt: skip
_MIB = 2**20


@dataclass(frozen=True)
class PublishedTiming:
    """The authors' code in float32 on one thread, in CPU seconds, by the same protocol on another machine."""

    plain_s: float
    guided_s: float | None = None
    """The method that its coarse prediction guides."""


REFERENCE = {
    ("oss-net-c", (96, 96, 96)): PublishedTiming(8.6),
    ("oss-net-d", (96, 96, 96)): PublishedTiming(14.3),
    ("oss-net-c", (128, 128, 128)): PublishedTiming(15.3, 8.3),
    ("oss-net-d", (128, 128, 128)): PublishedTiming(25.5, 14.1),
}
"""Published timings of the reference; its ellipsoid differs but has about as many points
(`known_shape_network.py`)."""


@dataclass(frozen=True)
class InferenceRow:
    """Measurements of one method on one volume."""

    network: str
    shape: Shape
    method: str
    """A method of `InferenceConfig`, or `windows` of a U-Net."""
    precision: KernelPrecision
    """Precision of matrix products, and whether the arithmetic between them was compiled."""
    cpu_s: float
    """CPU seconds of a prediction, encoder included."""
    wall_s: float
    points: int
    """Voxels that the network decided; all of them of a U-Net."""
    timed_points: int
    """Points that were timed; where that is fewer, `cpu_s` and `wall_s` are extrapolated from them."""
    foreground: int
    """Voxels of the ellipsoid."""
    wrong: int | None
    """Voxels that differ from the ellipsoid; None of a U-Net, and where not all were decided."""
    resident_bytes: int | None
    """Memory before predicting: libraries, network, volume; None where the system does not say."""
    peak_bytes: int | None
    """Peak memory of the process."""
    reference: PublishedTiming | None
    """Times of the authors' code, where it was measured."""

    @property
    def added_mib(self) -> float | None:
        """Memory that predicting took, in MiB."""
        if self.peak_bytes is None or self.resident_bytes is None:
            return None
        return (self.peak_bytes - self.resident_bytes) / _MIB


@dataclass(frozen=True)
class InferenceResult(BenchmarkResult):
    """All rows, with the machine and the settings of the measurement."""

    processor: str
    versions: dict[str, str]
    threads: int
    points_per_chunk: int
    window: str
    statistic: str
    command: str
    gflops: dict[str, float]
    """Rate of matrix products by precision, measured in the same run on one thread."""
    rows: tuple[InferenceRow, ...]

    def summary(self) -> dict[str, object]:
        """Human-readable rows."""
        return {"rows": len(self.rows), "matrix products": rates(self.gflops)}


def summary(row: InferenceRow) -> str:
    """A row in a line, for progress."""
    what = f"{row.network} {shape_name(row.shape)} {row.method} {row.precision}"
    return f"{what}: {row.cpu_s:.3g} s, {row.points} points"


def show(result: InferenceResult) -> None:
    """Print a row per network, shape, method and precision."""
    print_table(_COLUMNS, map(_cells, result.rows), left=4)


def _cells(row: InferenceRow) -> Iterator[str]:
    yield from (row.network, shape_name(row.shape), row.method, row.precision, f"{row.cpu_s:.3g}")
    yield from (f"{row.points:,}", f"{row.points / row.cpu_s:,.0f}")
    yield "" if row.wrong is None else str(row.wrong)
    yield "" if row.peak_bytes is None else f"{row.peak_bytes / _MIB:.0f}"
    yield "" if row.added_mib is None else f"{row.added_mib:.0f}"
    known = (None, None) if row.reference is None else (row.reference.plain_s, row.reference.guided_s)
    yield from ("" if seconds is None else f"{seconds / row.cpu_s:.1f}" for seconds in known)


def draw(result: InferenceResult) -> bytes:
    """CPU seconds, a bar a row, as PNG; those of the reference are gray."""
    from matplotlib.figure import Figure

    bars = list(_bars(result))
    figure = Figure(figsize=(10, 1.5 + 0.3 * len(bars)), layout="constrained")
    axes: Axes = figure.subplots()
    methods = list(dict.fromkeys(row.method for row in result.rows))
    colors = [f"C{methods.index(method)}" if method in methods else "gray" for _, method, _ in bars]
    axes.barh(range(len(bars)), [seconds for *_, seconds in bars], color=colors)
    for place, (*_, seconds) in enumerate(bars):
        axes.annotate(f" {seconds:.3g} s", (seconds, place), va="center", annotation_clip=False)
    axes.set_yticks(range(len(bars)), [label for label, *_ in bars])
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="CPU seconds a volume")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.margins(x=0.15)
    figure.suptitle(f"{result.processor}, threads: {result.threads}")
    return png_bytes(figure, dpi=120)


def _bars(result: InferenceResult) -> Iterator[tuple[str, str, float]]:
    """Label, method and seconds; the reference's times come before the first row that they belong to."""
    shown = set[tuple[str, Shape]]()
    for row in result.rows:
        what = f"{row.network}, {shape_name(row.shape)}"
        if row.reference is not None and (row.network, row.shape) not in shown:
            shown.add((row.network, row.shape))
            yield f"{what}, reference, plain", "reference", row.reference.plain_s
            if row.reference.guided_s is not None:
                yield f"{what}, reference, guided", "reference", row.reference.guided_s
        yield f"{what}, {row.method}, {row.precision}", row.method, row.cpu_s
