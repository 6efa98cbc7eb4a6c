"""Every network over several resolutions: time, memory and arithmetic of training, speed of inference."""

import math
import platform
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version

import torch

from ossnet.benchmarks.config import NetworksBenchmarkConfig, Shape, parse_shape, shape_name
from ossnet.benchmarks.machine import processor, release_memory, torch_threads
from ossnet.benchmarks.networks.macs import training_operations
from ossnet.benchmarks.networks.results import STATISTIC, ModelRow, ModelsResult
from ossnet.benchmarks.networks.steps import time_network
from ossnet.benchmarks.timer import matrix_rate
from ossnet.config import Config
from ossnet.errors import UserError
from ossnet.memory import track_peak
from ossnet.memory.available import available_memory
from ossnet.memory.device import resolve_device
from ossnet.models import DenseConfig, NetworkConfig, OccupancyConfig, network_config, network_from_config
from ossnet.planning import measure, predict
from ossnet.sampling.grid import working_shape
from ossnet.sizing import size_network


def measure_models(
    settings: NetworksBenchmarkConfig, *, command: str, progress: Callable[[ModelRow], None]
) -> ModelsResult:
    """Measure all networks at all shapes, one after the other.

    Args:
        settings: what to measure, and how often.
        command: the command line, stored in the result.
        progress: called with each row when it is measured.

    Raises:
        UserError: no such device, or a shape too small for a network; before anything is measured.
    """
    device = resolve_device(settings.device)
    shapes = [parse_shape(text) for text in settings.shapes]
    requested = [(shape, configure(name, shape, settings)) for name in settings.networks for shape in shapes]
    rows = []
    with torch_threads(settings.threads):
        precisions: dict[str, None] = dict.fromkeys(("float32", settings.precision))
        gflops = {precision: matrix_rate(device, precision) for precision in precisions}
        for shape, config in requested:
            rows.append(_row(shape, config, device, settings.repeats, gflops[settings.precision]))
            progress(rows[-1])
        threads = torch.get_num_threads()
    with track_peak(device) as idle:  # reads the device and its versions
        pass
    return ModelsResult(
        device=idle.memory.device,
        processor=processor(),
        versions={**idle.memory.versions, "python": platform.python_version(), "monai": version("monai")},
        threads=threads,
        precision=settings.precision,
        compiled=settings.compile,
        dataset=settings.dataset,
        points=settings.points,
        batch_size=settings.batch_size,
        repeats=settings.repeats,
        statistic=STATISTIC,
        command=command,
        gflops=gflops,
        rows=tuple(rows),
    )


def configure(name: str, shape: Shape, settings: NetworksBenchmarkConfig) -> Config:
    """A run's configuration: a preset of the data set, or sized for the shape, on the grid that it works on.

    Raises:
        UserError: the network would see a single cell at its coarsest.
    """
    sized = settings.dataset != "none"
    model = network_config(name, dataset=settings.dataset if sized else None)
    model = model if sized else size_network(model, shape)
    working = working_shape(shape, multiple=model.grid_multiple)
    _reject_single_cell(model, shape, working)
    return Config(model=model).replace(
        {
            "sampling.working_shape": working,
            "sampling.points": settings.points,
            "training.batch_size": settings.batch_size,
            "training.precision": settings.precision,
            "training.compile": settings.compile,
        }
    )


def _reject_single_cell(model: NetworkConfig, shape: Shape, working: Shape) -> None:
    axes = model.spatial_dims if isinstance(model, DenseConfig) else 3
    multiple = model.grid_multiple
    if math.prod(edge // multiple for edge in working[:axes]) < 2:
        raise UserError(
            "shapes",
            expected=f"a shape that {model.name} reduces to two cells or more",
            found=shape_name(shape),
            remedy=f"give an edge above {multiple}",
        )


def _row(shape: Shape, config: Config, device: torch.device, repeats: int, gflops: float) -> ModelRow:
    row = _planned(shape, config, gflops)
    if device.type == "cpu" and row.predicted_bytes > available_memory(device):
        return row
    try:
        peak = measure(config, device=str(device))
        step, inference = time_network(config, device, repeats=repeats)
    except torch.OutOfMemoryError:
        return row
    finally:
        release_memory(device)
    return replace(
        row,
        status="measured",
        peak_bytes=peak.allocated,
        reserved_bytes=peak.reserved,
        forward_s=step.forward_s,
        backward_s=step.backward_s,
        update_s=step.update_s,
        step_s=step.step_s,
        step_median_s=step.step_median_s,
        roofline_ratio=None if row.roofline_s is None else step.step_s / row.roofline_s,
        training_predictions_per_s=step.n_predictions / step.step_s,
        inference_predictions_per_s=inference.n_predictions / inference.seconds,
    )


def _planned(shape: Shape, config: Config, gflops: float) -> ModelRow:
    """The part of a row that needs no run."""
    model, working, volumes = config.model, config.sampling.working_shape, config.training.batch_size
    assert working is not None
    operations = floor = None
    if isinstance(model, OccupancyConfig):
        operations = training_operations(model, working, volumes=volumes, points=config.sampling.points)
        floor = 2 * sum(part.total for part in operations.values()) / (gflops * 1e9)
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in network_from_config(model).parameters())
    return ModelRow(
        network=model.name,
        shape=shape,
        working_shape=working,
        status="out of memory",
        parameters=parameters,
        predicted_bytes=predict(config).allocated,
        operations=operations,
        roofline_s=floor,
    )
