"""What drawing from a volume takes on a device, against what is counted for it."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ossnet.config import Config
from ossnet.data import Store
from ossnet.memory import track_peak
from ossnet.memory.storage_tracker import BLOCK
from ossnet.sampling import gather
from ossnet.sampling.batches import batch_maker, drawing_bytes
from ossnet.sampling.sampler import SampleKey
from ossnet.sampling.transforms import planes
from ossnet.sampling.volume import Volume

SHAPE = (96, 80, 64)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("o-net", {}),
        ("oss-net-c", {}),
        ("oss-net-c", {"augmentation.gamma": 0.3, "augmentation.bias_field": 0.3}),
        ("oss-net-c", {"augmentation.rotation": 10.0}),
        ("oss-net-d", {}),
        ("unet-3d", {}),
        ("unet-2d", {"sampling.crop_shape": (64, 64, 64)}),
    ],
)
def test_drawing_takes_at_most_what_is_counted(
    name: str, changes: dict[str, Any], phantom_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the way that devices take, on a volume as it is when it has been sent to one."""
    store = Store.open(phantom_store)
    config = Config.preset(name, store).replace(
        {"sampling.working_shape": SHAPE, "sampling.points": 4096, "augmentation.probability": 1.0, **changes}
    )
    monkeypatch.setattr(planes, "on_cpu", lambda _: False)
    monkeypatch.setattr(gather, "PART_BYTES", 1 << 20)
    monkeypatch.setattr("ossnet.sampling.batches.PART_BYTES", 1 << 20)
    voxels = torch.rand(config.model.in_channels, *SHAPE).half()
    label = (torch.rand(SHAPE) > 0.9).byte()
    make = batch_maker(
        store.task, model=config.model, sampling=config.sampling, augmentation=config.augmentation, seed=0
    )
    volume = Volume(SampleKey(0, 0, "a"), voxels, label, (1.0, 1.0, 1.0), owned=True)
    with track_peak("cpu", resident=[voxels, label]) as peak:
        batch = make([volume])
    beyond = peak.allocated - sum(tensor.nbytes for tensor in batch.tensors())
    counted = drawing_bytes(config.model, config.sampling, config.augmentation)
    assert 0.75 * counted < beyond <= counted + 100 * BLOCK  # a tensor fills its last block
