"""Peak memory of training and inference over the resolution: predicted, and measured where requested."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, product
from typing import TYPE_CHECKING, Literal

from ossnet.benchmarks.config import (
    NetworksBenchmarkConfig,
    ResolutionBenchmarkConfig,
    Shape,
    parse_shape,
    shape_name,
)
from ossnet.benchmarks.machine import processor, release_memory
from ossnet.benchmarks.networks.measure import configure
from ossnet.benchmarks.result import BenchmarkResult, by_name
from ossnet.config import Config
from ossnet.memory import PROTOCOL
from ossnet.memory.available import available_memory
from ossnet.memory.device import resolve_device
from ossnet.models import DenseConfig
from ossnet.output.figure import png_bytes
from ossnet.output.tables import print_table
from ossnet.planning import measure, predict
from ossnet.planning.inference import measure_inference, predict_inference
from ossnet.planning.margin import GB

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Phase = Literal["training", "inference"]
_WORKSPACES = 1.5
"""What a process may take, as a multiple of its tensors: convolutions have workspaces that are none."""
_CROPS = ", crops"
_PHASES: dict[Phase, str] = {"training": "a training step", "inference": "predicting a volume"}


@dataclass(frozen=True)
class ResolutionRow:
    """Peaks of one network at one resolution, in bytes."""

    network: str
    """The preset; a U-Net that trains on crops has `, crops` after it."""
    shape: Shape
    """Voxels of the volume."""
    trains_on: Shape
    """Voxels of what a step sees: the volume padded to the network's grid, or a crop of it."""
    phase: Phase
    predicted_bytes: int
    measured_bytes: int | None = None
    """None where it was not run: not asked for, or more than the machine has room for."""

    @property
    def edge(self) -> float:
        """Edge of the cube with as many voxels."""
        return math.prod(self.shape) ** (1 / 3)


@dataclass(frozen=True)
class ResolutionResult(BenchmarkResult):
    """All rows, with the machine and the settings."""

    device: str
    """`cpu` or the name of the GPU that measured."""
    processor: str
    protocol: str
    crop: str
    points: int
    command: str
    rows: tuple[ResolutionRow, ...]

    def summary(self) -> dict[str, object]:
        """Human-readable rows."""
        training = by_name(self.rows_of("training"), key=lambda row: row.network)
        return {
            name: ", ".join(f"{row.predicted_bytes / GB:.2f} GB at {shape_name(row.shape)}" for row in rows)
            for name, rows in training.items()
        }

    def rows_of(self, phase: Phase) -> list[ResolutionRow]:
        """The rows of training or of inference."""
        return [row for row in self.rows if row.phase == phase]


def measure_resolution(
    settings: ResolutionBenchmarkConfig, *, command: str, progress: Callable[[ResolutionRow], None]
) -> ResolutionResult:
    """Predict, and measure where requested, one volume at each resolution through each network.

    Raises:
        UserError: no such device, or a shape too small for a network; before anything is predicted.
    """
    device, rows = resolve_device(settings.device), list[ResolutionRow]()
    requested = [
        (shape, _configs(settings, name, shape))
        for name, shape in product(settings.networks, map(parse_shape, settings.shapes))
    ]
    for shape, configs in requested:
        for (label, config), phase in product(configs.items(), _PHASES):
            rows.append(_row(settings, str(device), phase, label, shape, config))
            release_memory(device)
            progress(rows[-1])
    return ResolutionResult(
        device=str(device),
        processor=processor(),
        protocol=PROTOCOL,
        crop=settings.crop,
        points=settings.points,
        command=command,
        rows=tuple(rows),
    )


def _configs(settings: ResolutionBenchmarkConfig, network: str, shape: Shape) -> dict[str, Config]:
    """One volume a step of the paper's networks for BraTS; U-Nets also as they are used, on crops."""
    config = configure(network, shape, NetworksBenchmarkConfig(dataset="brats", points=settings.points))
    configs, crop = {network: config}, parse_shape(settings.crop)
    if (
        isinstance(config.model, DenseConfig)
        and config.model.spatial_dims == 3
        and math.prod(crop) < math.prod(shape)
    ):
        configs[f"{network}{_CROPS}"] = config.replace({"sampling.crop_shape": list(crop)})
    return configs


def _row(
    settings: ResolutionBenchmarkConfig, device: str, phase: Phase, label: str, shape: Shape, config: Config
) -> ResolutionRow:
    sampling = config.sampling
    trains_on = sampling.crop_shape or sampling.working_shape
    assert trains_on is not None
    predicted = predict(config) if phase == "training" else predict_inference(config)
    limit = settings.trained_up_to if phase == "training" else settings.inferred_up_to
    measured = None
    room = available_memory(resolve_device(device)) / _WORKSPACES
    if math.prod(shape) <= math.prod(parse_shape(limit)) and predicted.allocated <= room:
        run = measure if phase == "training" else measure_inference
        measured = run(config, device=device).allocated
    return ResolutionRow(label, shape, trains_on, phase, predicted.allocated, measured)


def summary(row: ResolutionRow) -> str:
    """A row in a line, for those who wait."""
    measured = "" if row.measured_bytes is None else f", measured {row.measured_bytes / GB:.3f} GB"
    name = f"{row.network}, {shape_name(row.shape)}, {row.phase}"
    return f"{name}: predicted {row.predicted_bytes / GB:.3f} GB{measured}"


def show(result: ResolutionResult) -> None:
    """Print a row for each network, resolution and phase."""
    columns = ("network", "volume", "phase", "predicted GB", "measured GB")
    print_table(columns, map(_cells, result.rows))


def _cells(row: ResolutionRow) -> tuple[str, ...]:
    measured = "" if row.measured_bytes is None else f"{row.measured_bytes / GB:.3f}"
    return row.network, shape_name(row.shape), row.phase, f"{row.predicted_bytes / GB:.3f}", measured


def draw(result: ResolutionResult) -> bytes:
    """Peaks over the resolution, a line a network and a cross where it was measured, as PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    for axes, phase in zip(figure.subplots(1, 2, sharey=True), _PHASES, strict=True):
        _draw_phase(axes, result.rows_of(phase))
        axes.set_title(f"peak memory of {_PHASES[phase]}", fontsize="medium")
        axes.label_outer()
    figure.axes[0].set_ylabel("GB")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right center")
    figure.suptitle(
        f"one volume, 4 modalities, {result.points} points; lines predicted, crosses measured; "
        f"crops of {result.crop}",
        fontsize="medium",
    )
    return png_bytes(figure)


def _draw_phase(axes: "Axes", rows: list[ResolutionRow]) -> None:
    from matplotlib import colormaps
    from matplotlib.ticker import NullLocator

    lines = by_name(rows, key=lambda row: row.network)
    dark_first = (*range(0, 20, 2), *range(1, 20, 2))
    wholes = [name for name in lines if not name.endswith(_CROPS)]
    colors = dict(zip(wholes, map(colormaps["tab20"], cycle(dark_first)), strict=False))
    for name, line in lines.items():
        color = colors[name.removesuffix(_CROPS)]
        axes.plot(
            [row.edge for row in line],
            [row.predicted_bytes / GB for row in line],
            "--" if name.endswith(_CROPS) else "-",
            color=color,
            marker=".",
            label=name,
        )
        measured = {row.edge: row.measured_bytes / GB for row in line if row.measured_bytes is not None}
        axes.plot([*measured], [*measured.values()], "x", markersize=8, color=color)
    axes.set(xscale="log", yscale="log", xlabel="volume (voxels)")
    ticks = {row.edge: shape_name(row.shape) for row in rows}
    axes.set_xticks(list(ticks), list(ticks.values()), rotation=30, ha="right")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)
