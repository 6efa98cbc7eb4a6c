"""Results of comparing predicted with measured peaks of memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from ossnet.benchmarks.result import BenchmarkResult
from ossnet.memory.peak import GIB
from ossnet.output.figure import png_bytes
from ossnet.output.tables import print_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STATISTIC = (
    "predicted / measured - 1 of the peak of the second step; CPU seconds of a prediction in a warm process"
)
_MARKERS = "os^vDPX<*"


@dataclass(frozen=True)
class MemoryRow:
    """Predicted and measured peaks of one configuration."""

    network: str
    options: str
    """The sampled values, as options of `ossnet plan`."""
    workers: int
    """Among which the batch is shared; the peaks are one worker's."""
    parts: dict[str, int]
    """The predicted peak by part, in bytes."""
    predicted_bytes: int
    measured_bytes: int
    reserved_bytes: int
    """Held by CUDA's caching allocator at its peak; on the CPU the same as `measured_bytes`."""
    predict_s: float

    @property
    def error(self) -> float:
        """Predicted over measured peak, less 1: negative where more was needed than predicted."""
        return self.predicted_bytes / self.measured_bytes - 1


@dataclass(frozen=True)
class MemoryResult(BenchmarkResult):
    """All rows, with the machine and the settings of the measurement."""

    device: str
    """`cpu` or the name of the GPU."""
    processor: str
    versions: dict[str, str]
    protocol: str
    seed: int
    statistic: str
    command: str
    rows: tuple[MemoryRow, ...]

    def summary(self) -> dict[str, object]:
        """Human-readable rows."""
        errors = [row.error for row in self.rows]
        sizes = [abs(error) for error in errors]
        return {
            "configurations": len(errors),
            "error": f"median {median(sizes):.2%}, largest {max(sizes):.2%}, lowest {min(errors):+.2%}",
            "time of a prediction": f"median {median(row.predict_s for row in self.rows):.2g} CPU s",
        }


def show(result: MemoryResult) -> None:
    """Print a row a network."""
    columns = ("network", "draws", "GiB", "median error", "largest", "lowest", "CPU s")
    print_table(columns, (_cells(network, rows) for network, rows in _by_network(result).items()))


def _cells(network: str, rows: list[MemoryRow]) -> Iterator[str]:
    errors, peaks = [row.error for row in rows], [row.measured_bytes / GIB for row in rows]
    sizes = [abs(error) for error in errors]
    yield from (network, str(len(rows)), f"{min(peaks):.3f} to {max(peaks):.3f}")
    yield from (f"{median(sizes):.2%}", f"{max(sizes):.2%}", f"{min(errors):+.2%}")
    yield f"{median(row.predict_s for row in rows):.2f}"


def summary(row: MemoryRow) -> str:
    """A row in a line, for those who wait."""
    return f"{row.network}: measured {row.measured_bytes / GIB:.3f} GiB, predicted {row.error:+.2%}"


def draw(result: MemoryResult) -> bytes:
    """Predicted against measured peaks, and the error below, a color a network, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 8), layout="constrained")
    peaks, errors = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    for (network, rows), marker in zip(_by_network(result).items(), _MARKERS, strict=False):
        measured = [row.measured_bytes / GIB for row in rows]
        peaks.scatter(
            measured, [row.predicted_bytes / GIB for row in rows], marker=marker, s=22, label=network
        )
        errors.scatter(measured, [100 * row.error for row in rows], marker=marker, s=22)
    _finish(peaks, errors)
    figure.suptitle(result.processor if result.device == "cpu" else result.device)
    return png_bytes(figure)


def _finish(peaks: "Axes", errors: "Axes") -> None:
    low, high = peaks.get_xlim()
    low = max(low, 1e-3)
    peaks.plot([low, high], [low, high], color="0.7", linewidth=0.8, zorder=0)
    peaks.set(xscale="log", yscale="log", ylabel="predicted peak (GiB)")
    peaks.legend()
    errors.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    errors.set(xlabel="measured peak of a training step (GiB)", ylabel="error (%)")
    for axes in (peaks, errors):
        axes.grid(alpha=0.3)


def _by_network(result: MemoryResult) -> dict[str, list[MemoryRow]]:
    rows: dict[str, list[MemoryRow]] = {}
    for row in result.rows:
        rows.setdefault(row.network, []).append(row)
    return rows
