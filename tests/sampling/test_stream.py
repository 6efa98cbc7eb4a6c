"""The batches of a run: the same by hash for any number of workers and threads, and after a resume."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ossnet.config import Config
from ossnet.data import Store
from ossnet.sampling.batch import Batch, PointBatch
from ossnet.sampling.batches import batch_maker
from ossnet.sampling.sampler import SampleKey, batch_order
from ossnet.sampling.stream import stream_batches
from ossnet.sampling.transforms import planes

RICH: dict[str, Any] = {
    "augmentation.probability": 0.7,
    "augmentation.rotation": 10.0,
    "augmentation.gamma": 0.3,
    "augmentation.bias_field": 0.3,
    "augmentation.modality_dropout": 0.2,
}


@pytest.fixture(scope="module")
def store(phantom_store: Path) -> Store:
    return Store.open(phantom_store)


def configured(store: Store, name: str, seed: int = 0, **changes: Any) -> Config:
    dotted = {path.replace("__", "."): value for path, value in changes.items()}
    settled = {"sampling.points": 64, "training.seed": seed, "training.batch_size": 2, **dotted}
    return Config.preset(name, store).replace(settled).resolve_for(store)


def steps_of(store: Store, config: Config, rank: int = 0, world_size: int = 1) -> list[list[SampleKey]]:
    training = config.training
    return list(
        batch_order(
            store.split("training"),
            epochs=2,
            batch_size=training.batch_size,
            seed=training.seed,
            steps_per_batch=training.steps_per_batch or 1,
            rank=rank,
            world_size=world_size,
        )
    )


def run(store: Store, config: Config, steps: list[list[SampleKey]], *, threads: int = 1) -> Iterator[Batch]:
    make = batch_maker(
        store.task,
        model=config.model,
        sampling=config.sampling,
        augmentation=config.augmentation,
        seed=config.training.seed,
    )
    return stream_batches(steps, store.case, make, threads=threads)


def digests(batches: Iterator[Batch], steps: list[list[SampleKey]]) -> dict[SampleKey, str]:
    """A hash of everything that a draw gave."""
    found = {}
    for step, batch in zip(steps, batches, strict=True):
        for index, key in enumerate(step):
            digest = hashlib.sha256()
            for tensor in batch.tensors():
                digest.update(tensor[index].contiguous().numpy().tobytes())
            found[key] = digest.hexdigest()
    return found


@given(
    seed=st.integers(0, 99),
    shares=st.sampled_from([(0.0, 0.0, 0.0), (0.5, 0.0, 0.2), (0.2, 0.5, 0.3)]),
    edge=st.sampled_from([3, 5, 7]),
    name=st.sampled_from(["oss-net-c", "oss-net-d", "feature-query", "unet-3d"]),
    steps_per_batch=st.integers(1, 2),
    cut=st.integers(0, 7),
)
@settings(deadline=None, max_examples=8)
def test_workers_threads_and_a_resume_change_nothing(
    store: Store, seed: int, shares: tuple[float, ...], edge: int, name: str, steps_per_batch: int, cut: int
) -> None:
    changes: dict[str, Any] = {"training__steps_per_batch": steps_per_batch}
    if name != "unet-3d":
        changes |= {"model__patch_edge": edge}
    border, foreground, gaussian = shares
    config = configured(
        store,
        name,
        seed,
        **changes,
        sampling__border_fraction=border,
        sampling__foreground_fraction=foreground,
        sampling__gaussian_fraction=gaussian,
    ).replace(RICH)
    steps = steps_of(store, config)
    whole = digests(run(store, config, steps), steps)
    assert digests(run(store, config, steps, threads=4), steps) == whole
    workers = [steps_of(store, config, rank, 2) for rank in range(2)]
    shared = [digests(run(store, config, part, threads=2), part) for part in workers]
    assert shared[0] | shared[1] == whole
    left = steps[cut:]
    assert digests(run(store, config, left), left) == {key: whole[key] for step in left for key in step}


@pytest.mark.parametrize("name", ["oss-net-c", "oss-net-d", "feature-query", "unet-3d", "unet-2d"])
@pytest.mark.parametrize("warped", [False, True])
def test_the_way_of_other_devices_gives_the_batches_of_the_cpu(
    store: Store, name: str, warped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = (
        configured(store, name, model__distance_head=name == "feature-query", sampling__gaussian_fraction=0.4)
        if name.startswith(("oss", "feature"))
        else configured(store, name)
    )
    config = config.replace({**RICH, "augmentation.rotation": 10.0 * warped})
    steps = steps_of(store, config)
    on_cpu = list(run(store, config, steps))
    monkeypatch.setattr(planes, "on_cpu", lambda _: False)
    for expected, found in zip(on_cpu, run(store, config, steps), strict=True):
        assert expected.cases == found.cases
        assert len(expected.tensors()) == len(found.tensors())
        for one, other in zip(expected.tensors(), found.tensors(), strict=True):
            assert one.dtype == other.dtype
            torch.testing.assert_close(one, other, atol=2e-3, rtol=2e-3)  # a unit of float16
        if isinstance(found, PointBatch):
            assert isinstance(expected, PointBatch)
            assert torch.equal(expected.coordinates, found.coordinates)
            assert torch.equal(expected.labels, found.labels)
            assert torch.equal(expected.coarse_labels, found.coarse_labels)


def test_leaving_early_ends_every_thread(store: Store) -> None:
    import threading

    config = configured(store, "oss-net-c")
    stream = run(store, config, steps_of(store, config), threads=2)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert not any(thread.name.startswith(("prefetch", "loader")) for thread in threading.enumerate())
