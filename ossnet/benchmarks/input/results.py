"""Results of a comparison of sample pipelines: their file, table and figure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ossnet.benchmarks.config import shape_name
from ossnet.benchmarks.input.waiting import DeviceWait, HostRate
from ossnet.benchmarks.result import BenchmarkResult
from ossnet.output.figure import png_bytes
from ossnet.output.tables import print_table
from ossnet.sampling.grid import Shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STATISTIC = "mean over the samples of the timed passes, after one of warm-up; files in the page cache"
OSSNET = "ossnet"
_COLUMNS = (
    "network", "pipeline", "s a sample", "CPU s", "reading s", "volumes/s", "points/s", "x ossnet", "s once",
)  # fmt: skip
_HOST_COLUMNS = ("loader threads", "s a volume", "CPU s", "volumes/s")
_WAIT_COLUMNS = ("step", "volumes", "batch", "loader threads", "share waited")


@dataclass(frozen=True)
class InputRow:
    """Measurements of one input pipeline for one network."""

    network: str
    pipeline: str
    """`ossnet`, `nibabel` (in a torch DataLoader), `monai` (PersistentDataset), `monai-threads` (in a
    ThreadDataLoader) or `nnunet` (nnU-Net v2's loader, whose samples are crops)."""
    sample_s: float
    """Wall time of a sample."""
    sample_cpu_s: float
    """CPU time of a sample: much less than `sample_s` says that the machine was busy with other work."""
    reading_s: float | None
    """Part of `sample_s` spent reading and normalizing NIfTI files; None where that is done once."""
    once_s: float
    """Seconds a case of work done once beforehand: a store, border files, a filled cache."""
    volumes_per_s: float
    points_per_s: float
    times_ossnet: float
    """`sample_cpu_s` over that of ossnet, for the same network."""


@dataclass(frozen=True)
class InputResult(BenchmarkResult):
    """All rows, with the machine and the settings of the measurement."""

    processor: str
    versions: dict[str, str]
    threads: int
    source: str
    shapes: tuple[Shape, ...]
    """X, Y, Z of the cases."""
    channels: int
    points: int
    border_fraction: float
    augment: bool
    repeats: int
    statistic: str
    command: str
    rows: tuple[InputRow, ...]
    sent_bytes: int
    """Bytes of a volume that cross to the device."""
    host: tuple[HostRate, ...]
    """The host's part, which is the same for every network, for one and two threads."""
    waits: tuple[DeviceWait, ...]
    """How long a device of some step times would wait."""

    def summary(self) -> dict[str, object]:
        """Human-readable rows."""
        return {"rows": len(self.rows)}


def summary(row: InputRow) -> str:
    """A row in a line, for progress."""
    return f"{row.network} {row.pipeline}: {row.sample_s:.3g} s a sample"


def show(result: InputResult) -> None:
    """Print a row per network and pipeline."""
    print_table(_COLUMNS, map(_cells, result.rows), left=2)
    print_table(_HOST_COLUMNS, map(_host_cells, result.host))
    print_table(_WAIT_COLUMNS, map(_wait_cells, result.waits), left=2)


def _host_cells(row: HostRate) -> Iterator[str]:
    yield from (
        str(row.threads),
        f"{row.volume_s:.4f}",
        f"{row.volume_cpu_s:.4f}",
        f"{row.volumes_per_s:.1f}",
    )


def _wait_cells(row: DeviceWait) -> Iterator[str]:
    yield f"{row.step_s:g} s"
    yield "kept on the device" if row.on_device else f"{row.steps_per_batch} steps a batch"
    yield from (str(row.batch_size), str(row.loader_threads), f"{row.wait_fraction:.3f}")


def _cells(row: InputRow) -> Iterator[str]:
    yield from (row.network, row.pipeline, f"{row.sample_s:.3f}", f"{row.sample_cpu_s:.3f}")
    yield "" if row.reading_s is None else f"{row.reading_s:.3f}"
    yield from (f"{row.volumes_per_s:.2f}", f"{row.points_per_s:,.0f}")
    yield from (f"{row.times_ossnet:.2f}", f"{row.once_s:.2f}")


def draw(result: InputResult) -> bytes:
    """Seconds a sample, a bar per network and pipeline, as PNG; reading is hatched."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.5 + 0.5 * len(result.rows)), layout="constrained")
    axes: Axes = figure.subplots()
    pipelines = list(dict.fromkeys(row.pipeline for row in result.rows))
    places = range(len(result.rows))
    axes.barh(
        places,
        [row.sample_s for row in result.rows],
        color=[f"C{pipelines.index(row.pipeline)}" for row in result.rows],
    )
    reading = [row.reading_s or 0 for row in result.rows]
    axes.barh(places, reading, color="none", edgecolor="white", hatch="//")
    for place, row in zip(places, result.rows, strict=True):
        axes.annotate(f" {row.sample_s:.3f} s", (row.sample_s, place), va="center", annotation_clip=False)
    axes.set_yticks(places, [f"{row.network}, {row.pipeline}" for row in result.rows])
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set(xlabel="seconds a sample (hatched: reading and normalizing files)")
    size = f"{shape_name(result.shapes[0])}x{result.channels}, {result.points} points"
    figure.suptitle(f"{result.processor}, threads: {result.threads}; {size}")
    return png_bytes(figure)
