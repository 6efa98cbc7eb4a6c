"""What networks are given to learn of regions, against the labels of the store."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ossnet.config import Config
from ossnet.data import Store
from ossnet.data.labels.presets import choose_regions
from ossnet.models import UNetConfig
from ossnet.sampling.batch import Batch, DenseBatch, PointBatch
from ossnet.sampling.batches import batch_maker, class_masks, targets
from ossnet.sampling.grid import offset
from ossnet.sampling.sampler import SampleKey
from ossnet.sampling.volume import Volume

BRATS = ("WT=1,2,3", "TC=2,3", "ET=3")


def with_regions(path: Path, *regions: str) -> Store:
    """The phantom's store with regions chosen by the phantom's label values; its cases stay as they are."""
    store = Store.open(path)
    task = replace(store.task, regions=choose_regions("labels", regions, store.task.labels))
    return Store(store.root, replace(store.manifest, task=task))


def batch(store: Store, name: str, **changes: Any) -> tuple[Batch, Config]:
    dotted = {path.replace("__", "."): value for path, value in changes.items()}
    plain = {"augmentation.probability": 0.0, "sampling.points": 3000, "sampling.foreground_fraction": 0.5}
    config = Config.preset(name, store).replace({**plain, **dotted}).resolve_for(store)
    make = batch_maker(
        store.task, model=config.model, sampling=config.sampling, augmentation=config.augmentation, seed=0
    )
    return make(
        [Volume.of(store.case(case), SampleKey(0, 0, case)) for case in store.split("training")[:2]]
    ), config


def framed(store: Store, case: str, working: tuple[int, ...]) -> np.ndarray:
    """The label indices of a case in the working grid."""
    label = np.zeros(working, np.uint8)
    stored = store.case(case).label
    box = (
        slice(start, start + edge)
        for start, edge in zip(offset(stored.shape, working), stored.shape, strict=True)
    )
    label[tuple(box)] = stored
    return label


def memberships(label: np.ndarray) -> np.ndarray:
    """WT, TC and ET of label indices, on a last axis."""
    return np.stack([np.isin(label, members) for members in ([1, 2, 3], [2, 3], [3])], -1)


def test_points_have_the_regions_they_lie_in(phantom_store: Path) -> None:
    store = with_regions(phantom_store, *BRATS)
    found, _ = batch(store, "oss-net-c", model__distance_head=True)
    assert isinstance(found, PointBatch)
    assert found.labels.shape == (2, 3000, 3)
    assert found.n_predictions == 6000
    working = found.grid_shape
    grid = tuple(found.coarse_labels.shape[2:])
    for index, case in enumerate(found.cases):
        label = framed(store, case, working)
        edges = torch.tensor(working) - 1
        x, y, z = ((found.coordinates[index] + 1) / 2 * edges).round().long().unbind(1)
        expected = memberships(label)[x, y, z]
        np.testing.assert_array_equal(found.labels[index].numpy(), expected)
        assert expected.all(1).any()
        assert (expected[:, 0] & ~expected[:, 1]).any()
        assert found.distances is not None
        np.testing.assert_array_equal(found.distances[index].numpy() < 0, expected)
        cells = [edge // size for edge, size in zip(working, grid, strict=True)]
        coarse = memberships(label).reshape(grid[0], cells[0], grid[1], cells[1], grid[2], cells[2], 3)
        np.testing.assert_array_equal(
            found.coarse_labels[index].numpy(), np.moveaxis(coarse.max((1, 3, 5)), -1, 0)
        )


@pytest.mark.parametrize("name", ["unet-3d", "unet-2d"])
@pytest.mark.parametrize("crop", [None, [12, 16, 8]])
def test_voxels_have_the_regions_they_lie_in(name: str, crop: list[int] | None, phantom_store: Path) -> None:
    """As many places and as many in each region as with the labels themselves, drawn in the same way."""
    store, plain = with_regions(phantom_store, *BRATS), Store.open(phantom_store)
    found, config = batch(store, name, sampling__crop_shape=crop)
    of_labels, _ = batch(plain, name, sampling__crop_shape=crop)
    assert isinstance(found, DenseBatch)
    assert isinstance(of_labels, DenseBatch)
    assert isinstance(config.model, UNetConfig)
    assert torch.equal(found.image, of_labels.image)
    expected = np.moveaxis(memberships(of_labels.labels.numpy()), -1, 1)
    np.testing.assert_array_equal(found.labels.numpy(), expected)
    assert found.n_predictions == of_labels.n_predictions == of_labels.labels.numel()
    assert expected.any()


def test_labels_in_no_region_are_background(phantom_store: Path) -> None:
    """Two labels make one class, the third is not drawn from as foreground."""
    store = with_regions(phantom_store, "core=2,3")
    found, config = batch(store, "oss-net-c", sampling__foreground_fraction=1.0)
    assert isinstance(found, PointBatch)
    assert not config.model.overlapping
    assert found.labels.shape == (2, 3000)
    assert (found.labels == 1).all()
    assert found.coarse_labels.shape[1] == 1


@given(arrays(np.uint8, (4, 3, 5), elements=st.integers(0, 7)), st.integers(0, 3))
def test_targets_are_the_bits_of_codes(codes: np.ndarray, axis: int) -> None:
    model = UNetConfig(classes=3, overlapping=True)
    found = torch.empty(*codes.shape[:axis], 3, *codes.shape[axis:])
    targets(torch.from_numpy(codes), model, axis=axis, out=found)
    bits = np.unpackbits(codes[..., None], axis=-1, bitorder="little")[..., :3]
    np.testing.assert_array_equal(found.movedim(axis, -1).numpy(), bits)
    masks = torch.stack(list(class_masks(torch.from_numpy(codes), model)))
    assert torch.equal(masks, found.bool().movedim(axis, 0))
