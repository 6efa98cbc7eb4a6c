"""The stream of a CUDA device: on one, and with the CPU in its place."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cuda_stand_in import CUDA, stand_in_for_cuda

from ossnet.config import Config
from ossnet.data import Store
from ossnet.data.labels.presets import choose_regions
from ossnet.models import OccupancyConfig
from ossnet.sampling.batch import Batch, PointBatch
from ossnet.sampling.batches import batch_maker
from ossnet.sampling.stream import stream_batches
from ossnet.sampling.transforms import planes
from ossnet.sampling.volume import VolumeCache
from ossnet.training_run import run_order

NAMES = ("o-net", "oss-net-b", "oss-net-c", "oss-net-d", "feature-query", "unet-3d", "unet-2d")


@pytest.fixture(scope="module")
def store(phantom_store: Path) -> Store:
    return Store.open(phantom_store)


def configured(store: Store, name: str, **changes: Any) -> Config:
    config = Config.preset(name, store)
    if isinstance(config.model, OccupancyConfig):
        changes |= {"sampling.points": 64, "sampling.border_fraction": 0.4, "sampling.gaussian_fraction": 0.3}
    changes |= {
        "augmentation.probability": 0.7,
        "augmentation.gamma": 0.3,
        "augmentation.bias_field": 0.3,
        "training.batch_size": 2,
        "training.epochs": 2,
    }
    return config.replace(changes).resolve_for(store)


def batches(
    store: Store, config: Config, device: torch.device, drawn_on: torch.device, *, cached: bool = False
) -> list[Batch]:
    cache = VolumeCache(10**9, drawn_on) if cached else None
    make = batch_maker(
        store.task,
        model=config.model,
        sampling=config.sampling,
        augmentation=config.augmentation,
        seed=config.training.seed,
        device=drawn_on,
        cache=cache,
    )
    steps = list(run_order(store, config.training))
    found = stream_batches(steps, store.case, make, threads=2, device=device, cache=cache)
    return [batch.to(torch.device("cpu")) for batch in found]


def assert_equal(expected: list[Batch], found: list[Batch]) -> None:
    for one, other in zip(expected, found, strict=True):
        assert one.cases == other.cases
        for tensor, its in zip(one.tensors(), other.tensors(), strict=True):
            assert tensor.dtype == its.dtype
            torch.testing.assert_close(tensor, its, atol=2e-3, rtol=2e-3)  # a unit of float16
        if isinstance(one, PointBatch):
            assert isinstance(other, PointBatch)
            assert torch.equal(one.coordinates, other.coordinates)
            assert torch.equal(one.labels, other.labels)
            assert torch.equal(one.coarse_labels, other.coarse_labels)


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rotation", [0.0, 10.0])
def test_batches_on_cuda_are_those_of_the_cpu(store: Store, name: str, rotation: float) -> None:
    """Through pinned memory and a stream of their own, as in training."""
    config = configured(store, name, **{"augmentation.rotation": rotation})
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert_equal(batches(store, config, cpu, cpu), batches(store, config, cuda, cuda))


@pytest.mark.gpu
def test_volumes_kept_on_cuda_give_the_same_batches(store: Store) -> None:
    config, cuda = configured(store, "oss-net-d"), torch.device("cuda")
    assert_equal(
        batches(store, config, cuda, cuda, cached=True),
        batches(store, config, cuda, cuda),
    )


@pytest.mark.parametrize("name", ["oss-net-d", "unet-3d"])
@pytest.mark.parametrize(("cached", "regions"), [(False, False), (True, False), (False, True)])
def test_with_the_cpu_in_its_place(
    store: Store, name: str, cached: bool, regions: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if regions:
        chosen = choose_regions("brats-regions", (), store.task.labels)
        task = replace(store.task, regions=chosen)
        store = Store(store.root, replace(store.manifest, task=task))
    config, cpu = configured(store, name), torch.device("cpu")
    expected = batches(store, config, cpu, cpu)
    device = stand_in_for_cuda(monkeypatch)
    monkeypatch.setattr(planes, "on_cpu", lambda _: False)
    found = batches(store, config, CUDA, cpu, cached=cached)
    assert_equal(expected, found)
    assert device.calls["pinned"] > 0
    assert device.calls["synchronize"] == len(found)
    assert {tensor.data_ptr() for batch in found for tensor in batch.tensors()} <= device.recorded
