"""Batches: what they hold belongs together, whatever was done to the case; they come again as they were."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from ossnet.config import Config
from ossnet.data import Store
from ossnet.data.store.case_file import StoredCase
from ossnet.sampling.batch import Batch, PointBatch
from ossnet.sampling.batches import batch_maker
from ossnet.sampling.grid import offset, pad
from ossnet.sampling.patches import PatchSource
from ossnet.sampling.sampler import SampleKey
from ossnet.sampling.volume import Volume

QUIET = {"augmentation.brightness": 0, "augmentation.noise": 0}


Make = Callable[[Sequence[SampleKey]], Batch]


def maker(store: Store, changes: dict[str, Any], name: str = "oss-net-d") -> tuple[Make, Config]:
    settled = Config.preset(name, store).replace({"sampling.points": 300, **changes}).resolve_for(store)
    made = batch_maker(
        store.task, model=settled.model, sampling=settled.sampling, augmentation=settled.augmentation, seed=7
    )
    return lambda keys: made(volumes(store, keys)), settled


def volumes(store: Store, keys: Sequence[SampleKey]) -> list[Volume]:
    return [Volume.of(store.case(key.case), key) for key in keys]


def voxels(batch: PointBatch, shape: tuple[int, ...]) -> torch.Tensor:
    """Indices on the case's grid, from coordinates on the working grid."""
    last = torch.tensor(batch.grid_shape) - 1
    return ((batch.coordinates[0] + 1) / 2 * last).round().long() - torch.tensor(
        offset(shape, batch.grid_shape)
    )


def fits(batch: PointBatch, case: StoredCase, mirrored: tuple[int, ...], edge: int) -> bool:
    """Whether the batch is that of the case mirrored along these axes, made the slow way."""
    image = torch.from_numpy(case.image.astype(np.float32)).flip([axis + 1 for axis in mirrored])
    label = torch.from_numpy(case.label.copy()).flip(mirrored)
    indices = voxels(batch, label.shape)
    assert batch.patches is not None
    assert batch.mid_range is not None
    found = torch.cat([batch.patches[0].float(), batch.mid_range[0]], 1)
    patches = PatchSource(image, edge=edge, local=True, mid_range=True).gather(indices)
    factor = batch.grid_shape[0] // batch.encoder_input.shape[2]
    encoder_input = functional.avg_pool3d(pad(image, batch.grid_shape), factor)
    same = [
        torch.equal(label[tuple(indices.T)].long(), batch.labels[0]),
        torch.allclose(patches, found, atol=1e-6),
        torch.allclose(encoder_input, batch.encoder_input[0], atol=1e-6),
    ]
    grid = batch.coarse_labels.shape[2:]
    for index in range(1, batch.coarse_labels.shape[1] + 1):
        mask = (pad(label, batch.grid_shape) == index).float()
        coarse = torch.nn.functional.adaptive_max_pool3d(mask[None], grid)[0]
        same.append(torch.equal(coarse, batch.coarse_labels[0, index - 1]))
    assert len(set(same)) == 1  # all fit, or none
    return same[0]


def test_points_patches_labels_and_encoder_input_are_of_one_mirrored_case(phantom_store: Path) -> None:
    store = Store.open(phantom_store)
    make, config = maker(
        store,
        {
            **QUIET,
            "augmentation.probability": 1.0,
            "sampling.border_fraction": 0.3,
            "sampling.gaussian_fraction": 0.3,
        },
    )
    edge: int = config.model.patch_edge  # type: ignore[union-attr]
    case = store.case(store.split("training")[0])
    seen = set()
    for step in range(12):
        batch = make([SampleKey(0, step, case.id)])
        assert isinstance(batch, PointBatch)
        seen |= {axes for axes in ((0,), (1,), (0, 1)) if fits(batch, case, axes, edge)}
    assert seen == {(0,), (1,), (0, 1)}


@pytest.mark.parametrize("warped", [False, True])
def test_border_points_lie_at_the_border_of_what_the_step_sees(phantom_store: Path, warped: bool) -> None:
    store = Store.open(phantom_store)
    changes = {
        **QUIET,
        "augmentation.probability": 1.0,
        "augmentation.rotation": 30.0 * warped,
        "augmentation.scale": 0.2 * warped,
        "sampling.border_fraction": 1.0,
        "sampling.border_width": 1.0,
        "model.distance_head": True,
        "sampling.distance_reach": 4.0,
    }
    make, _ = maker(store, changes, "feature-query")
    batch = make([SampleKey(0, 3, store.split("training")[0])])
    assert isinstance(batch, PointBatch)
    assert batch.distances is not None
    classes = torch.arange(1, store.task.classes + 1)
    assert torch.equal(batch.distances < 0, batch.labels[..., None] == classes)
    # The border is that of the foreground: a point outside is 1 mm from a class, one inside from none.
    outside = batch.labels == 0
    assert 0.2 < outside.float().mean() < 0.9
    assert torch.allclose(batch.distances[outside].amin(1), torch.tensor(0.25))


@pytest.mark.parametrize("name", ["oss-net-c", "unet-3d", "unet-2d"])
def test_equal_references_give_equal_batches_anywhere(name: str, phantom_store: Path) -> None:
    store = Store.open(phantom_store)
    changes = {
        "augmentation.probability": 0.7,
        "augmentation.rotation": 10.0,
        "augmentation.gamma": 0.2,
        "augmentation.bias_field": 0.2,
        "augmentation.modality_dropout": 0.2,
        "sampling.border_fraction": 0.3,
        "sampling.foreground_fraction": 0.3,
        "sampling.gaussian_fraction": 0.2,
        "sampling.uncertain_fraction": 0.2,
    }
    cases = store.split("training")
    steps = [[SampleKey(0, step, cases[step % 3]), SampleKey(0, step, cases[3])] for step in range(6)]
    first, other = (maker(store, changes, name)[0] for _ in range(2))
    in_order = [first(step) for step in steps]
    backwards = [other(step) for step in reversed(steps)]
    for one, two in zip(in_order, reversed(backwards), strict=True):
        assert one.cases == two.cases
        for left, right in zip(one.tensors(), two.tensors(), strict=True):
            assert torch.equal(left, right)
    assert not torch.equal(in_order[0].tensors()[0], in_order[3].tensors()[0])  # the same case, drawn anew


def test_local_patches_have_the_precision_of_the_configuration(phantom_store: Path) -> None:
    store = Store.open(phantom_store)
    key = SampleKey(0, 3, store.split("training")[0])
    make, config = maker(store, QUIET)
    half = make([key])
    wide = batch_maker(
        store.task,
        model=config.model,
        sampling=replace(config.sampling, image_dtype="float32"),
        augmentation=config.augmentation,
        seed=7,
    )(volumes(store, [key]))
    assert isinstance(half, PointBatch)
    assert isinstance(wide, PointBatch)
    assert half.patches is not None
    assert wide.patches is not None
    assert half.patches.dtype == torch.float16
    assert wide.patches.dtype == half.mid_range.dtype == wide.mid_range.dtype == torch.float32  # type: ignore[union-attr]
    assert torch.equal(half.patches.float(), wide.patches)


def test_candidates_come_last_and_are_counted(phantom_store: Path) -> None:
    store = Store.open(phantom_store)
    changes = {"sampling.uncertain_fraction": 0.5, "sampling.uncertain_candidates": 4}
    make, _ = maker(store, {**changes, "sampling.foreground_fraction": 0.5}, "oss-net-a")
    batch = make([SampleKey(0, 0, case) for case in store.split("training")[:2]])
    assert isinstance(batch, PointBatch)
    assert (batch.candidates, batch.chosen) == (600, 150)
    assert batch.labels.shape == (2, 750)
    assert batch.n_predictions == 600
    assert (batch.labels[:, :150] > 0).all()
    assert (batch.labels[:, 150:] == 0).any()
