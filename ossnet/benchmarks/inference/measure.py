"""How fast whole volumes are predicted: by every method, against the reference and a U-Net's windows.

Letters: C channels, X Y Z voxel axes in nibabel's order.
"""

import math
import multiprocessing
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ossnet.benchmarks.config import InferenceBenchmarkConfig, KernelPrecision, Shape, parse_shape
from ossnet.benchmarks.inference.known_shape_network import KnownShapeNetwork, ellipsoid, scan
from ossnet.benchmarks.inference.results import REFERENCE, STATISTIC, WINDOWS, InferenceResult, InferenceRow
from ossnet.benchmarks.machine import processor, reset_peak_rss, resident_memory, torch_threads
from ossnet.benchmarks.timer import matrix_rate
from ossnet.data.labels.scheme import ClassScheme
from ossnet.errors import UserError
from ossnet.inference import InferenceConfig, predict_volume
from ossnet.inference.config import Method, Precision
from ossnet.inference.query.encoded_volume import EncodedVolume
from ossnet.models import DenseConfig, NetworkConfig, OccupancyConfig, network_config, network_from_config
from ossnet.models.kernels.precision import autocast
from ossnet.sampling import SamplingConfig
from ossnet.sampling.grid import pad, working_shape
from ossnet.training.compilation import maybe_compile

_CPU = torch.device("cpu")


def measure_inference(
    settings: InferenceBenchmarkConfig, *, command: str, progress: Callable[[InferenceRow], None]
) -> InferenceResult:
    """Predict by all methods, one after the other, each in its own process, so that its peak is its own.

    Args:
        settings: the networks, volumes and methods to compare.
        command: the command line, stored in the result.
        progress: called with each row when it is measured.

    Raises:
        UserError: a network lacks a method; raised before anything is measured.
    """
    tasks = list(_tasks(settings))
    with torch_threads(1):
        gflops = {name: matrix_rate(_CPU, name, now=time.process_time) for name in ("float32", "bf16")}
    rows = []
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=fresh, max_tasks_per_child=1) as processes:
        for task in tasks:
            rows.append(processes.submit(_measure, task).result())
            progress(rows[-1])
    return InferenceResult(
        processor=processor(),
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "monai")},
        },
        threads=settings.threads,
        points_per_chunk=settings.points_per_chunk,
        window=settings.window,
        statistic=STATISTIC,
        command=command,
        gflops=gflops,
        rows=tuple(rows),
    )


@dataclass(frozen=True)
class _Task:
    """A row to measure."""

    settings: InferenceBenchmarkConfig
    model: NetworkConfig
    shape: Shape
    method: Method | None
    """Inference method; None for a U-Net."""
    kernel_precision: KernelPrecision

    @property
    def inference(self) -> InferenceConfig:
        return InferenceConfig(
            self.method or "dense",
            points_per_chunk=self.settings.points_per_chunk,
            precision=_precision(self.kernel_precision),
        )

    @property
    def sampling(self) -> SamplingConfig:
        return SamplingConfig(working_shape=working_shape(self.shape, multiple=self.model.grid_multiple))


class _Timing(NamedTuple):
    """Time and memory of a single prediction."""

    cpu_s: float
    wall_s: float
    points: int
    timed: int
    wrong: int | None


def _tasks(settings: InferenceBenchmarkConfig) -> Iterator[_Task]:
    for name in settings.networks:
        model = network_config(name, dataset=settings.dataset)
        methods = (None,) if isinstance(model, DenseConfig) else settings.methods
        if "paper-guided" in methods and isinstance(model, OccupancyConfig) and not model.auxiliary_head:
            raise UserError(
                "methods", expected="a network with a coarse prediction for paper-guided", found=name
            )
        for shape in settings.shapes:
            for method in methods:
                for precision in _precisions(model, settings):
                    yield _Task(settings, model, parse_shape(shape), method, precision)


def _precisions(model: NetworkConfig, settings: InferenceBenchmarkConfig) -> Iterable[KernelPrecision]:
    """The precisions to measure a network in; a U-Net has nothing to compile."""
    if isinstance(model, OccupancyConfig):
        return settings.precision
    precisions: dict[str, Precision] = {each: _precision(each) for each in settings.precision}
    return dict.fromkeys(precisions.values())


def _precision(precision: str) -> Precision:
    return "bf16" if precision.startswith("bf16") else "float32"


def _measure(task: _Task) -> InferenceRow:
    """Measure one row; runs in its own process."""
    torch.set_num_threads(task.settings.threads)
    torch.manual_seed(0)
    inside = ellipsoid(task.shape)
    image = scan(inside, task.model.in_channels)
    network = _network(task, inside).eval()
    maybe_compile(task.kernel_precision.endswith("-compiled"), network)
    with torch.inference_mode(), autocast(image.device, task.inference.precision):
        before = resident_memory("VmRSS")
        _warm_up(network, image, task)
        reset_peak_rss()
        takes = [_predict(network, image, inside, task) for _ in range(task.settings.repeats)]
    best = min(takes)
    return InferenceRow(
        network=task.model.name,
        shape=task.shape,
        method=task.method or WINDOWS,
        precision=task.kernel_precision,
        cpu_s=best.cpu_s,
        wall_s=best.wall_s,
        points=best.points,
        timed_points=best.timed,
        foreground=int(inside.sum()),
        wrong=best.wrong,
        resident_bytes=before,
        peak_bytes=resident_memory("VmHWM"),
        reference=REFERENCE.get((task.model.name, task.shape)) if task.settings.dataset == "brats" else None,
    )


def _network(task: _Task, inside: Bool[Tensor, "X Y Z"]) -> nn.Module:
    if isinstance(task.model, OccupancyConfig):
        grid = task.sampling.working_shape
        assert grid is not None
        return KnownShapeNetwork(task.model, pad(inside, grid))
    return network_from_config(task.model)


def _warm_up(network: nn.Module, image: Float[Tensor, "C X Y Z"], task: _Task) -> None:
    """Predict once, so that nothing is compiled or chosen during the measurement."""
    if isinstance(network, KnownShapeNetwork):
        next(_encoded(network, image, task).boxes())
    else:
        edge = 2 * task.model.grid_multiple  # two cells of the deepest level
        network(image.new_zeros(1, len(image), edge, edge, edge))


def _predict(
    network: nn.Module, image: Float[Tensor, "C X Y Z"], inside: Bool[Tensor, "X Y Z"], task: _Task
) -> _Timing:
    if task.method is None:
        return _predict_window(network, image, task)
    if task.method == "dense":
        assert isinstance(network, KnownShapeNetwork)
        return _predict_densely(network, image, task)
    began = _now()
    found = predict_volume(network, image, sampling=task.sampling, settings=task.inference)
    cpu, wall = (_now() - began).tolist()
    return _Timing(cpu, wall, found.n_queried, found.n_queried, int((found.classes.bool() != inside).sum()))


def _predict_densely(network: KnownShapeNetwork, image: Float[Tensor, "C X Y Z"], task: _Task) -> _Timing:
    """The encoder, and boxes until enough voxels are decided: all others take as long."""
    began = _now()
    volume = _encoded(network, image, task)
    encoded = _now()
    scheme = ClassScheme.of(network.config)
    for _, logits in volume.boxes():
        scheme.decide(logits)
        if volume.n_queried >= task.settings.dense_voxels:
            break
    voxels = image[0].numel()
    cpu, wall = (encoded - began + (_now() - encoded) * (voxels / volume.n_queried)).tolist()
    return _Timing(cpu, wall, voxels, volume.n_queried, None)


def _predict_window(network: nn.Module, image: Float[Tensor, "C X Y Z"], task: _Task) -> _Timing:
    """Predict a single window: all take the same time; blending the windows is not measured."""
    window, settings = parse_shape(task.settings.window), task.inference
    x, y, z = window
    first = image[:, :x, :y, :z]
    began = _now()
    found = predict_volume(network, first, sampling=SamplingConfig(), settings=settings)
    steps = [max(1, int(edge * (1 - settings.window_overlap))) for edge in window]
    places = zip(image.shape[1:], window, steps, strict=True)
    windows = math.prod(1 + math.ceil(max(length - edge, 0) / step) for length, edge, step in places)
    cpu, wall = ((_now() - began) * windows).tolist()
    return _Timing(cpu, wall, image[0].numel(), found.n_queried, None)


def _now() -> np.ndarray:
    """CPU and wall seconds."""
    return np.array([time.process_time(), time.perf_counter()])


def _encoded(network: KnownShapeNetwork, image: Float[Tensor, "C X Y Z"], task: _Task) -> EncodedVolume:
    chunk = task.settings.points_per_chunk
    return EncodedVolume(network, image, working=task.sampling.working_shape, chunk=chunk)
