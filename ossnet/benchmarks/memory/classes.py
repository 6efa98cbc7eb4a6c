"""Peak memory of training over the number of classes: predicted, and measured where requested."""

from collections.abc import Callable
from dataclasses import dataclass

from ossnet.benchmarks.config import ClassesBenchmarkConfig, parse_shape
from ossnet.benchmarks.machine import processor, release_memory
from ossnet.benchmarks.result import BenchmarkResult, by_name
from ossnet.config import Config
from ossnet.memory import PROTOCOL
from ossnet.memory.device import resolve_device
from ossnet.models import DenseConfig, network_config
from ossnet.output.figure import png_bytes
from ossnet.output.tables import print_table
from ossnet.planning import measure, predict
from ossnet.planning.margin import GB
from ossnet.sampling.grid import working_shape


@dataclass(frozen=True)
class ClassesRow:
    """Peaks of one network at one number of classes, in bytes."""

    network: str
    classes: int
    trains_on: str
    """Voxels of what a step sees: the volume, or a U-Net's crop of it."""
    parts: dict[str, int]
    """The predicted peak by part."""
    predicted_bytes: int
    measured_bytes: int | None = None
    """None where no step was taken."""


@dataclass(frozen=True)
class ClassesResult(BenchmarkResult):
    """All rows, with the machine and the settings."""

    device: str
    """`cpu` or the name of the GPU that measured."""
    processor: str
    protocol: str
    shape: str
    points: int
    command: str
    rows: tuple[ClassesRow, ...]

    def summary(self) -> dict[str, object]:
        """Human-readable rows."""
        lines = by_name(self.rows, key=lambda row: row.network)
        return {
            name: f"{rows[0].predicted_bytes / GB:.2f} GB at {rows[0].classes} classes, "
            f"{rows[-1].predicted_bytes / GB:.2f} GB at {rows[-1].classes}"
            for name, rows in lines.items()
        }


def measure_classes(
    settings: ClassesBenchmarkConfig, *, command: str, progress: Callable[[ClassesRow], None]
) -> ClassesResult:
    """Predict, and measure where requested, one volume a step of each network at each number of classes.

    Raises:
        UserError: no such device; before anything is predicted.
    """
    device, rows = resolve_device(settings.device), list[ClassesRow]()
    for name in settings.networks:
        for classes in sorted({*settings.classes, *settings.measured}):
            config = _config(settings, name, classes)
            peak, measured = predict(config), None
            if classes in settings.measured and name in settings.measured_networks:
                measured = measure(config, device=str(device)).allocated
                release_memory(device)
            seen = config.sampling.crop_shape or config.sampling.working_shape
            trains_on = "x".join(map(str, seen or ()))
            rows.append(ClassesRow(name, classes, trains_on, dict(peak.parts), peak.allocated, measured))
            progress(rows[-1])
    return ClassesResult(
        device=str(device),
        processor=processor(),
        protocol=PROTOCOL,
        shape=settings.shape,
        points=settings.points,
        command=command,
        rows=tuple(rows),
    )


def _config(settings: ClassesBenchmarkConfig, network: str, classes: int) -> Config:
    """One volume a step; U-Nets see their usual crop of it."""
    config = Config(model=network_config(network, classes=classes))
    shape = working_shape(parse_shape(settings.shape), multiple=config.model.grid_multiple)
    changes: dict[str, object] = {
        "sampling.working_shape": list(shape),
        "sampling.points": settings.points,
        "training.batch_size": 1,
    }
    if isinstance(config.model, DenseConfig):
        changes["sampling.crop_shape"] = list(parse_shape(settings.crop))
    return config.replace(changes)


def summary(row: ClassesRow) -> str:
    """A row in a line, for those who wait."""
    measured = "" if row.measured_bytes is None else f", measured {row.measured_bytes / GB:.3f} GB"
    return f"{row.network}, {row.classes} classes: predicted {row.predicted_bytes / GB:.3f} GB{measured}"


def show(result: ClassesResult) -> None:
    """Print a row for each network and number of classes."""
    columns = ("network", "trains on", "classes", "predicted GB", "measured GB")
    print_table(columns, map(_cells, result.rows))


def _cells(row: ClassesRow) -> tuple[str, ...]:
    measured = "" if row.measured_bytes is None else f"{row.measured_bytes / GB:.3f}"
    return row.network, row.trains_on, str(row.classes), f"{row.predicted_bytes / GB:.3f}", measured


def draw(result: ClassesResult) -> bytes:
    """Peak over the number of classes, a line a network and a cross where it was measured, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, rows in by_name(result.rows, key=lambda row: row.network).items():
        peaks = [row.predicted_bytes / GB for row in rows]
        (line,) = axes.plot(
            [row.classes for row in rows], peaks, marker=".", label=f"{name}, {rows[0].trains_on}"
        )
        measured = {row.classes: row.measured_bytes / GB for row in rows if row.measured_bytes is not None}
        axes.plot([*measured], [*measured.values()], "x", markersize=9, color=line.get_color())
    axes.set(xscale="log", yscale="log", xlabel="classes", ylabel="peak of a training step (GB)")
    axes.set_title(f"one volume of {result.shape}; lines predicted, crosses measured", fontsize="medium")
    axes.grid(alpha=0.3)
    axes.legend()
    return png_bytes(figure)
