"""One optimizer step on a real batch."""

from pathlib import Path

import torch

from ossnet.config import Config
from ossnet.data import Store
from ossnet.models import network_from_config
from ossnet.sampling.batch import PointBatch
from ossnet.sampling.batches import batch_maker
from ossnet.sampling.sampler import SampleKey
from ossnet.sampling.volume import Volume
from ossnet.training.optimizer import build_optimizer
from ossnet.training.step import optimizer_step


def test_the_distance_head_learns_how_far_the_surfaces_are(phantom_store: Path) -> None:
    store = Store.open(phantom_store)
    config = Config.preset("feature-query", store).replace(
        {
            "model.distance_head": True,
            "model.encoder_channels": [8, 16],
            "model.decoder_width": 32,
            "model.decoder_blocks": 2,
            "sampling.points": 400,
            "sampling.border_fraction": 0.5,
            "optimizer.name": "adamw",
            "optimizer.learning_rate": 5e-3,
        }
    )
    config = config.resolve_for(store)
    make = batch_maker(
        store.task, model=config.model, sampling=config.sampling, augmentation=config.augmentation, seed=0
    )
    batch = make([Volume.of(store.case(case), SampleKey(0, 0, case)) for case in store.split("training")[:2]])
    assert isinstance(batch, PointBatch)
    assert batch.distances is not None
    classes = torch.arange(1, store.task.classes + 1)
    assert torch.equal(batch.distances < 0, batch.labels[..., None] == classes)
    assert batch.distances.abs().max() <= 1

    torch.manual_seed(0)
    network = network_from_config(config.model).train()
    optimizer = build_optimizer(network, config.optimizer)

    def error() -> float:
        with torch.no_grad():
            found = network(batch.encoder_input, batch.coordinates, batch.network_patches, batch.grid_shape)
        return float((found.distances - batch.distances).abs().mean())

    before = error()
    for _ in range(60):
        optimizer_step(network, optimizer, batch, config.loss, precision="float32")
    assert error() < 0.3 * before
