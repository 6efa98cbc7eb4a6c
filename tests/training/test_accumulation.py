"""A batch that passes through a network in parts: the loss, the gradients and the draws of the whole."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ossnet.config import Config
from ossnet.data import Store
from ossnet.models import network_from_config
from ossnet.sampling.batch import Batch
from ossnet.sampling.batches import batch_maker
from ossnet.sampling.sampler import SampleKey, split_batches
from ossnet.sampling.volume import Volume
from ossnet.training.step import accumulated_step

BATCH = 5


def configured(store: Store, name: str, **changes: Any) -> Config:
    small: dict[str, Any] = {"loss.dice_weight": 1.0, "training.batch_size": BATCH}
    if name == "unet-3d":
        small |= {"model.channels": [4, 8]}
    else:
        small |= {"model.encoder_channels": [4, 8], "model.decoder_width": 16, "sampling.points": 200}
    return Config.preset(name, store).replace(small | changes).resolve_for(store)


def in_parts(store: Store, config: Config, parts: int) -> list[Batch]:
    make = batch_maker(
        store.task, model=config.model, sampling=config.sampling, augmentation=config.augmentation, seed=0
    )
    keys = [SampleKey(0, 0, case) for case in store.split("training")[:BATCH]]
    return [
        make([Volume.of(store.case(key.case), key) for key in part]) for part in split_batches([keys], parts)
    ]


def gradients(
    config: Config, parts: list[Batch], *, evaluating: bool, mean_volumes: float | None = None
) -> tuple[float, torch.Tensor]:
    """Loss and gradients of a step; with `evaluating` every normalization uses its running statistics."""
    torch.manual_seed(0)
    network = network_from_config(config.model).train(not evaluating)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    volumes = sum(len(part.cases) for part in parts)
    loss = accumulated_step(
        network,
        optimizer,
        iter(parts),
        config.loss,
        volumes=volumes,
        mean_volumes=mean_volumes,
        precision="float32",
    )
    return float(loss), flat_gradients(network)


def flat_gradients(network: nn.Module) -> torch.Tensor:
    return torch.cat([each.grad.flatten() for each in network.parameters() if each.grad is not None])


@pytest.mark.parametrize("parts", [2, 5])
@pytest.mark.parametrize(("name", "evaluating"), [("unet-3d", False), ("feature-query", True)])
def test_loss_and_gradients_are_those_of_the_whole_batch(
    name: str, evaluating: bool, parts: int, phantom_store: Path
) -> None:
    """The U-Net normalizes each volume by itself; the occupancy network's batch statistics are held still."""
    store = Store.open(phantom_store)
    config = configured(store, name)
    loss, found = gradients(config, in_parts(store, config, 1), evaluating=evaluating)
    split_loss, split_found = gradients(config, in_parts(store, config, parts), evaluating=evaluating)
    assert split_loss == pytest.approx(loss, rel=1e-5)
    assert (split_found - found).norm() < 1e-4 * found.norm()


@pytest.mark.parametrize("workers", [2, 3])
def test_shares_of_workers_that_do_not_divide_the_batch_count_by_their_volumes(
    workers: int, phantom_store: Path
) -> None:
    store = Store.open(phantom_store)
    config = configured(store, "unet-3d")
    volumes = in_parts(store, config, BATCH)
    loss, found = gradients(config, volumes, evaluating=False)
    shares = [volumes[rank::workers] for rank in range(workers)]
    mean = BATCH / workers
    each = [gradients(config, share, evaluating=False, mean_volumes=mean) for share in shares]
    assert sum(loss for loss, _ in each) / workers == pytest.approx(loss, rel=1e-5)
    together = torch.stack([gradient for _, gradient in each]).mean(0)  # as DDP has it
    assert (together - found).norm() < 1e-4 * found.norm()


def test_batch_statistics_are_each_part_s_own(phantom_store: Path) -> None:
    store = Store.open(phantom_store)
    config = configured(store, "oss-net-c")
    loss, _ = gradients(config, in_parts(store, config, 1), evaluating=False)
    split_loss, _ = gradients(config, in_parts(store, config, 2), evaluating=False)
    assert split_loss == pytest.approx(loss, rel=0.1)


@pytest.mark.parametrize(("size", "parts", "sizes"), [(8, 3, [3, 3, 2]), (3, 8, [1, 1, 1]), (4, 1, [4])])
def test_steps_are_split_evenly_and_in_order(size: int, parts: int, sizes: list[int]) -> None:
    keys = [SampleKey(0, step, f"case {number}") for step in range(2) for number in range(size)]
    steps = [keys[:size], keys[size:]]
    pieces = list(split_batches(steps, parts))
    assert [len(piece) for piece in pieces] == sizes * 2
    assert [key for piece in pieces for key in piece] == keys
