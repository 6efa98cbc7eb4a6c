"""Peak memory of predicting one whole volume: measured by doing it, or predicted without.

Letters: C channels, X Y Z voxel axes of the working volume.
"""

import math
from dataclasses import replace
from typing import Protocol

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ossnet.inference import InferenceConfig, predict_volume
from ossnet.inference.methods.similarity import EDGE, MOST
from ossnet.memory import PeakMemory, track_peak
from ossnet.models import DenseConfig, NetworkConfig, network_from_config
from ossnet.planning.dummy_batch import require_working_shape
from ossnet.sampling import SamplingConfig

PROTOCOL = (
    "bytes of tensor storage living at the peak of predicting one volume of the working shape, in blocks of "
    "512; parameters and the volume included; of a hierarchical prediction the most that it can be"
)
MAPS = "maps"
MAP_BYTES = 24
"""What a hierarchical prediction knows of each voxel and looks at, at most, while it decides points."""
LOOK_BYTES = 16
"""The same while it learns a look, and of each number that it learns it from."""


class Applicable(Protocol):
    """The parts of `ossnet.config.Config` that decide the memory of inference."""

    @property
    def model(self) -> NetworkConfig: ...
    @property
    def sampling(self) -> SamplingConfig: ...
    @property
    def inference(self) -> InferenceConfig: ...


def measure_inference(config: Applicable, *, device: str | None = None) -> PeakMemory:
    """Peak of predicting a volume of zeros, really done, densely; a hierarchical one's maps are added.

    Raises:
        UserError: the configuration has no working shape yet.
        torch.OutOfMemoryError: it does not fit.
    """
    return _volume(config, torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))


def predict_inference(config: Applicable) -> PeakMemory:
    """The same quantity without memory or a GPU, on fake tensors; what no tensor shows is not in it.

    Raises:
        UserError: the configuration has no working shape yet.
    """
    with FakeTensorMode():
        return _volume(config, torch.device("cpu"))


def _volume(config: Applicable, device: torch.device) -> PeakMemory:
    """Which voxels a hierarchical prediction asks about depends on the volume; a dense one asks about all."""
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
    voxels, learnt_from = math.prod(shape), MOST * EDGE**3 * len(image)
    maps = max(MAP_BYTES * voxels, LOOK_BYTES * (voxels + learnt_from))
    return replace(
        memory,
        allocated=memory.allocated + maps,
        reserved=memory.reserved + maps,
        parts={**memory.parts, MAPS: maps},
    )
