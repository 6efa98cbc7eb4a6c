"""Peak memory of predicting one whole volume: measured by doing it, or predicted without.

Letters: C channels, X Y Z voxel axes of the working volume.
"""

import math
from dataclasses import replace

import torch

from ossnet.config import Config
from ossnet.data.labels.scheme import ClassScheme
from ossnet.inference import predict_volume
from ossnet.inference.methods.hierarchical import MIN_STRIDE
from ossnet.inference.methods.lattice import FEWEST_PLANES, VALUES_AT_ONCE
from ossnet.inference.methods.similarity import CUBE_EDGE, MAX_SAMPLES_PER_SIDE
from ossnet.memory import PeakMemory, track_peak
from ossnet.memory.device import resolve_device
from ossnet.models import DenseConfig, network_from_config
from ossnet.models.kernels._fake import FakeTensorMode
from ossnet.sampling.batch import require_working_shape
from ossnet.sampling.grid import Shape

PROTOCOL = (
    "bytes of tensor storage living at the peak of predicting one volume of the working shape, in blocks of "
    "512; parameters and the volume included; of a hierarchical prediction the most that it can be"
)
MAPS = "maps"
MAP_BYTES = 24
"""Bytes per voxel that a hierarchical prediction keeps at most while it decides points."""
SIMILARITY_BYTES = 16
"""Bytes that it keeps per voxel, and per number of the training data, while it trains its similarity."""
LOGIT_BYTES = 1
"""Bytes per voxel and logit that it keeps for the lattices, which hold an eighth of the voxels and fewer."""
INTERPOLATION_BYTES = 11
"""Bytes per logit that it keeps while it interpolates a part of the volume."""


def measure_inference(config: Config, *, device: str | None = None) -> PeakMemory:
    """Measure the peak memory of predicting one volume, by predicting zeros densely.

    The maps of a hierarchical prediction are added by a formula.

    Args:
        config: the network and how it predicts; its working shape must be set.
        device: where to predict, as torch names it; by default a GPU if there is one.

    Raises:
        UserError: the configuration has no working shape yet, or there is no such device.
        torch.OutOfMemoryError: it does not fit.
    """
    return _volume(config, resolve_device(device))


def predict_inference(config: Config) -> PeakMemory:
    """Predict the peak memory of predicting one volume, without memory or a GPU, on fake tensors.

    Memory that is not a tensor's is not included.

    Raises:
        UserError: the configuration has no working shape yet.
    """
    with FakeTensorMode():
        return _volume(config, torch.device("cpu"))


def _volume(config: Config, device: torch.device) -> PeakMemory:
    """Predict densely: which voxels a hierarchical prediction queries depends on the volume."""
    shape, settings = require_working_shape(config.sampling), replace(config.inference, method="dense")
    with torch.random.fork_rng(devices=[]), device:
        network = network_from_config(config.model)
    image = torch.zeros((config.model.in_channels, *shape), device=device)
    parts = {"parameters": [*network.parameters(), *network.buffers()], "volume": [image]}
    with track_peak(device, resident=parts, modules=network.parts(), precision=settings.precision) as peak:
        predict_volume(network, image, sampling=config.sampling, settings=settings)
    memory = replace(peak.memory, protocol=PROTOCOL)
    if isinstance(config.model, DenseConfig) or config.inference.method == "dense":
        return memory
    maps = _map_bytes(config, shape)
    return replace(
        memory,
        allocated=memory.allocated + maps,
        reserved=memory.reserved + maps,
        parts={**memory.parts, MAPS: maps},
    )


def _map_bytes(config: Config, shape: Shape) -> int:
    """The most that a hierarchical prediction keeps besides what a dense one does."""
    voxels, logits = math.prod(shape), ClassScheme.of(config.model).logits
    trained_on = MAX_SAMPLES_PER_SIDE * CUBE_EDGE**3 * config.model.in_channels
    part = max(VALUES_AT_ONCE, logits * FEWEST_PLANES * MIN_STRIDE * shape[1] * shape[2])
    interpolating = MAP_BYTES * voxels + INTERPOLATION_BYTES * min(part, logits * voxels)
    return LOGIT_BYTES * logits * voxels + max(interpolating, SIMILARITY_BYTES * (voxels + trained_on))
