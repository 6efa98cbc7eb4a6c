"""Prediction of a whole volume: its seconds and its peak."""

import time
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from ossnet.benchmarks.gpu.results import Problem, VolumeRow
from ossnet.benchmarks.gpu.sizes import Sizes
from ossnet.benchmarks.gpu.study import problem
from ossnet.benchmarks.inference.known_shape_network import KnownShapeNetwork, ellipsoid, scan
from ossnet.benchmarks.machine import release_memory
from ossnet.config import Config
from ossnet.inference import VolumePrediction, predict_volume
from ossnet.inference.config import Precision
from ossnet.memory import track_peak
from ossnet.memory.device import resolve_device
from ossnet.models import OccupancyConfig, network_config, network_from_config
from ossnet.planning.inference import predict_inference
from ossnet.sampling.grid import pad, working_shape

PART = "inference"
_PRECISIONS: tuple[Precision, ...] = ("float32", "bf16")


def predict_all(sizes: Sizes, device: str) -> Iterator[VolumeRow | Problem]:
    """Predict a volume with each network, in float32 and bf16."""
    for name in sizes.predicted:
        for precision in _PRECISIONS:
            try:
                yield _row(name, precision, sizes, resolve_device(device))
            except Exception:
                yield problem(PART, f"{name}, {precision}")
            finally:
                release_memory(resolve_device(device))


def _row(name: str, precision: Precision, sizes: Sizes, device: torch.device) -> VolumeRow:
    config = _configure(name, precision, sizes)
    inside = ellipsoid(sizes.study_shape).to(device)
    image = scan(inside.cpu(), config.model.in_channels).to(device)
    torch.manual_seed(0)
    network = _network(config, inside).to(device)

    def predict() -> VolumePrediction:
        return predict_volume(network, image, sampling=config.sampling, settings=config.inference)

    with track_peak(device, resident=[*network.parameters(), *network.buffers(), image]) as peak:
        predict()
    began = time.perf_counter()
    found = predict()
    wrong = int((found.classes.bool() != inside).sum())  # waits for the device too
    return VolumeRow(
        network=name,
        shape=sizes.study_shape,
        precision=precision,
        seconds=time.perf_counter() - began,
        queried=found.n_queried,
        wrong=wrong if isinstance(config.model, OccupancyConfig) else None,
        predicted_bytes=predict_inference(config).allocated,
        allocated_bytes=peak.allocated,
        reserved_bytes=peak.reserved,
    )


def _configure(name: str, precision: Precision, sizes: Sizes) -> Config:
    config = Config(model=network_config(name, dataset="brats"))
    working = working_shape(sizes.study_shape, multiple=config.model.grid_multiple)
    sampling = replace(config.sampling, working_shape=working)
    return replace(config, sampling=sampling, inference=replace(config.inference, precision=precision))


def _network(config: Config, inside: torch.Tensor) -> nn.Module:
    if not isinstance(config.model, OccupancyConfig):
        return network_from_config(config.model)
    assert config.sampling.working_shape is not None
    return KnownShapeNetwork(config.model, pad(inside, config.sampling.working_shape))
