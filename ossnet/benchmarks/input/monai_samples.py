"""Samples by MONAI: what is the same at every draw comes from `PersistentDataset`'s cache, the rest is drawn.

MONAI has no patches around points, so they are gathered as the reference does.

Letters: C channels, X Y Z voxel axes in the order of the file.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ossnet.benchmarks.config import InputBenchmarkConfig
from ossnet.benchmarks.input.reference_samples import border_band, read_image, read_label, sample
from ossnet.data import Case
from ossnet.models import OccupancyConfig
from ossnet.sampling.grid import pad


def persistent_dataset(
    cases: Sequence[Case], folder: Path, model: OccupancyConfig, settings: InputBenchmarkConfig, multiple: int
) -> Any:
    """A data set whose cache is empty yet: reading, normalizing, border and padding are done once a case."""
    from monai import transforms
    from monai.data import PersistentDataset

    def load(item: dict[str, Any]) -> dict[str, Tensor]:
        return _loaded(cases[item["index"]], multiple)

    def draw(volumes: dict[str, Tensor]) -> dict[str, Tensor]:
        image, label, border = (torch.as_tensor(volumes[key]) for key in ("image", "label", "border"))
        return sample(image, label[0], border[0], model, settings)

    keys = ("image", "label", "border")
    random = [
        transforms.RandFlipd(keys, prob=0.375, spatial_axis=0),  # as often as the paper flips either axis
        transforms.RandFlipd(keys, prob=0.375, spatial_axis=1),
        transforms.RandShiftIntensityd("image", prob=0.5, offsets=0.15),
        transforms.RandGaussianNoised("image", prob=0.5, std=0.15),
    ]
    # The cache holds what comes before the first random or plain function.
    steps = [transforms.Lambda(load), *(random if settings.augment else ()), draw]
    data = [{"index": index} for index in range(len(cases))]
    return PersistentDataset(data, transforms.Compose(steps), cache_dir=folder)


def _loaded(case: Case, multiple: int) -> dict[str, Tensor]:
    """Volumes with a channel axis, padded."""
    image, label = read_image(case), read_label(case)
    working = [-(-edge // multiple) * multiple for edge in label.shape]
    volumes = {"image": image, "label": label[None], "border": border_band(label)[None]}
    return {key: pad(volume, working) for key, volume in volumes.items()}
