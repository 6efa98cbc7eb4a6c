"""Batches of many classes: rare ones are drawn, and no mask of every class is made."""

from typing import Any

import numpy as np
import pytest
import torch

from ossnet.data import Task
from ossnet.memory import track_peak
from ossnet.models import network_config
from ossnet.sampling import AugmentationConfig, SamplingConfig
from ossnet.sampling.batch import PointBatch
from ossnet.sampling.batches import batch_maker
from ossnet.sampling.candidates import find_foreground
from ossnet.sampling.points import draw_points
from ossnet.sampling.sampler import SampleKey
from ossnet.sampling.volume import Volume

CLASSES = 117
SHAPE = (48, 48, 48)


def label() -> torch.Tensor:
    """Class 117 in three voxels, class 1 nearly everywhere, 58 others in eight voxels each."""
    codes = torch.ones(SHAPE, dtype=torch.uint8)
    for number in range(2, 60):
        x, y = divmod(number, 10)
        codes[4 * x : 4 * x + 2, 4 * y : 4 * y + 2, :2] = number
    codes[40, 40, 40:43] = CLASSES
    return codes


def test_a_class_of_few_voxels_is_drawn_as_often_as_the_largest() -> None:
    codes, sampling = label(), SamplingConfig(points=6000, foreground_fraction=1.0)
    found = find_foreground(codes, (1, 1, 1), sampling)
    assert len(found.classes) == 60
    generator = torch.Generator().manual_seed(0)
    points = draw_points(found, SHAPE, (1, 1, 1), sampling, generator)
    counts = codes[tuple(points.unbind(1))].long().bincount(minlength=CLASSES + 1)
    present = counts[[*range(1, 60), CLASSES]]
    assert int(counts.sum()) == int(present.sum()) == 6000
    assert 60 < int(present.min()) <= int(present.max()) < 150  # 100 each, within five deviations


def peak_of_batch(classes: int, **fields: Any) -> int:
    """Bytes of tensors at the peak of making a batch of a case."""
    names = {f"organ {number}": number for number in range(1, classes + 1)}
    model = network_config("oss-net-c", classes=classes, encoder_downscale=1, **fields)
    maker = batch_maker(
        Task(("CT",), names),
        model=model,
        sampling=SamplingConfig(points=64, working_shape=SHAPE),
        augmentation=AugmentationConfig(),
        seed=0,
    )
    codes = label().clamp(max=classes)
    voxels = torch.zeros((1, *SHAPE), dtype=torch.float16)
    volume = Volume(SampleKey(0, 0, "case"), voxels, codes, (1.0, 1.0, 1.0))
    with track_peak(torch.device("cpu"), resident=[voxels, codes]) as tracked:
        batch = maker([volume])
    assert isinstance(batch, PointBatch)
    assert batch.coarse_labels.shape == (1, classes, 3, 3, 3)
    assert batch.labels.dtype == torch.int64
    return tracked.memory.allocated


@pytest.mark.parametrize("fields", [{}, {"distance_head": True}])
def test_a_batch_of_many_classes_takes_hardly_more_than_one_of_few(fields: dict[str, Any]) -> None:
    few, many = peak_of_batch(9, **fields), peak_of_batch(CLASSES, **fields)
    voxels = int(np.prod(SHAPE))
    assert many - few < voxels  # a mask of each class would take 108 times as much
