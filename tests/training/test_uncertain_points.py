"""Points chosen by the network: the least sure of the candidates, nothing of the network moved."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ossnet.config import Config
from ossnet.data import Store
from ossnet.models import network_from_config
from ossnet.sampling.batch import PointBatch
from ossnet.sampling.batches import batch_maker
from ossnet.sampling.sampler import SampleKey
from ossnet.sampling.volume import Volume
from ossnet.training.optimizer import build_optimizer
from ossnet.training.step import optimizer_step
from ossnet.training.uncertain_points import select_uncertain, uncertainty

SMALL: dict[str, Any] = {
    "model.encoder_channels": [4, 8],
    "model.decoder_width": 16,
    "model.decoder_blocks": 2,
    "model.distance_head": True,
    "sampling.points": 200,
    "sampling.border_fraction": 0.5,
    "sampling.uncertain_fraction": 0.25,
    "optimizer.name": "adamw",
}


def prepared(phantom_store: Path, name: str, **changes: Any) -> tuple[nn.Module, PointBatch, Config]:
    store = Store.open(phantom_store)
    config = Config.preset(name, store).replace({**SMALL, **changes}).resolve_for(store)
    make = batch_maker(
        store.task, model=config.model, sampling=config.sampling, augmentation=config.augmentation, seed=0
    )
    batch = make([Volume.of(store.case(case), SampleKey(0, 0, case)) for case in store.split("training")[:2]])
    assert isinstance(batch, PointBatch)
    torch.manual_seed(0)
    return network_from_config(config.model).train(), batch, config


@pytest.mark.parametrize("name", ["oss-net-d", "feature-query"])
def test_the_least_sure_candidates_are_kept_with_all_that_belongs_to_them(
    name: str, phantom_store: Path
) -> None:
    network, batch, _ = prepared(phantom_store, name)
    kept = select_uncertain(network, batch)
    assert kept.coordinates.shape == (2, 200, 3)
    assert (kept.candidates, kept.chosen, kept.n_predictions) == (0, 0, batch.n_predictions)
    with torch.no_grad():
        logits = network.eval()(
            *(batch.encoder_input, batch.coordinates, batch.network_patches, batch.grid_shape)
        ).logits
    least = uncertainty(logits, exclusive=True)
    for volume in range(2):
        places = {tuple(place): index for index, place in enumerate(batch.coordinates[volume].tolist())}
        found = [places[tuple(place)] for place in kept.coordinates[volume].tolist()]
        assert found[:150] == [places[tuple(place)] for place in batch.coordinates[volume, :150].tolist()]
        chosen, left = set(found[150:]), set(range(150, 300)) - set(found[150:])
        assert len(found[150:]) == 50
        assert least[volume, list(chosen)].min() >= least[volume, list(left)].max() - 1e-5
        assert torch.equal(kept.labels[volume], batch.labels[volume, found])
        assert kept.distances is not None
        assert batch.distances is not None
        assert torch.equal(kept.distances[volume], batch.distances[volume, found])
        if name == "oss-net-d":
            for own, all_ in ((kept.patches, batch.patches), (kept.mid_range, batch.mid_range)):
                assert own is not None
                assert all_ is not None
                assert torch.equal(own[volume], all_[volume, found])


def test_choosing_leaves_the_network_as_it_was(phantom_store: Path) -> None:
    network, batch, _ = prepared(phantom_store, "oss-net-c")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    select_uncertain(network, batch)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(module.training for module in network.modules())


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_step_learns_from_the_points_that_were_chosen(precision: str, phantom_store: Path) -> None:
    network, batch, config = prepared(phantom_store, "oss-net-c")
    chosen = select_uncertain(network, batch)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    results = []
    for given in (batch, chosen):
        network.load_state_dict(state)
        loss = optimizer_step(
            network, build_optimizer(network, config.optimizer), given, config.loss, precision=precision
        )
        results.append((loss, [value.clone() for value in network.state_dict().values()]))
    if precision == "float32":  # in bf16 the choice itself may differ
        assert torch.equal(results[0][0], results[1][0])
        assert all(torch.equal(one, two) for one, two in zip(results[0][1], results[1][1], strict=True))
    moved = [
        not torch.equal(value, state[name])
        for name, value in zip(state, results[0][1], strict=True)
        if name.endswith("weight")
    ]
    assert all(moved)


def test_unsure_is_near_a_decision() -> None:
    regions = torch.tensor([[[3.0, -0.1], [-2.0, 2.0], [0.5, 4.0]]])
    assert uncertainty(regions, exclusive=False)[0].argsort(descending=True).tolist() == [0, 2, 1]
    classes = torch.tensor([[[5.0, 4.9, 0.0], [0.0, 0.0, 3.0], [1.0, 2.0, 0.0]]])
    assert uncertainty(classes, exclusive=True)[0].argsort(descending=True).tolist() == [0, 2, 1]


def test_without_candidates_the_batch_stays(phantom_store: Path) -> None:
    network, batch, _ = prepared(phantom_store, "oss-net-a", **{"sampling.uncertain_fraction": 0.0})
    assert select_uncertain(network, batch) is batch
