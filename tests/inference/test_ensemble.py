"""Several networks as one: the mean of their probabilities, one network in memory at a time."""

import json
import weakref
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ossnet.config import Config
from ossnet.data import Store
from ossnet.errors import UserError
from ossnet.inference import Predictor
from ossnet.inference.ensemble import Ensemble, EnsemblePredictor, Member, load_predictor, read_members
from ossnet.models import network_from_config
from ossnet.training.checkpoint import save_checkpoint

SMALL = {"model.encoder_channels": (4, 4), "model.decoder_width": 8, "model.patch_edge": 3}


def save(
    folder: Path, store: Store, preset: str, changes: Mapping[str, Any], *, seed: int, fold: int | None = None
) -> Path:
    config = Config.preset(preset, store).replace({**changes, "training.fold": fold}).resolve_for(store)
    torch.manual_seed(seed)
    documents = {"config.json": config.to_json(), "task.json": json.dumps(store.task.to_dict())}
    save_checkpoint(folder, network=network_from_config(config.model), documents=documents, state={})
    return folder


@pytest.fixture(scope="module")
def store(phantom_store: Path) -> Store:
    return Store.open(phantom_store)


@pytest.fixture(scope="module")
def folders(store: Store, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An occupancy network and a U-Net."""
    folder = tmp_path_factory.mktemp("runs")
    return (
        save(folder / "first", store, "oss-net-a", SMALL, seed=0),
        save(folder / "second", store, "unet-3d", {"model.channels": (4, 8)}, seed=1),
    )


@pytest.fixture(scope="module")
def scan(phantom_store: Path) -> Path:
    return min((phantom_store.parent / "source" / "imagesTr").iterdir())


def test_the_weighted_mean_of_different_networks_decides(
    folders: tuple[Path, Path], scan: Path, tmp_path: Path
) -> None:
    for name, folder in zip(("a", "b"), folders, strict=True):
        (tmp_path / name).symlink_to(folder)
    Ensemble((Member(Path("a"), 3.0), Member(Path("b"), 1.0)), 0.9, 0.8, 2).save(tmp_path)
    assert str(Ensemble.read(tmp_path)) == "Dice 0.9000 of 2 networks (the best alone 0.8000) on 2 cases"
    members = read_members([tmp_path])
    assert [each.weight for each in members] == [0.75, 0.25]
    found = load_predictor(members)(scan, with_probabilities=True)
    one, two = (Predictor.from_checkpoint(each)(scan, with_probabilities=True) for each in folders)
    assert found.probabilities is not None
    assert one.probabilities is not None
    assert two.probabilities is not None
    mean = {
        name: 0.75 * one.probabilities[name] + 0.25 * two.probabilities[name] for name in one.probabilities
    }
    for name, probability in mean.items():
        np.testing.assert_allclose(found.probabilities[name], probability, atol=1e-6)
    every = np.stack([1 - sum(mean.values()), *mean.values()])
    clear = np.diff(np.sort(every, 0)[-2:], axis=0)[0] > 1e-5
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(found.codes[clear], every.argmax(0)[clear])
    assert found.geometry == one.geometry


def test_a_network_twice_is_that_network(folders: tuple[Path, Path], store: Store) -> None:
    image = torch.from_numpy(store.case(store.split("validation")[0]).image.astype(np.float32))
    for folder in folders:
        alone = Predictor.from_checkpoint(folder).predict(image, with_probabilities=True)
        twice = load_predictor(read_members([folder, folder])).predict(image, with_probabilities=True)
        assert alone.probabilities is not None
        assert twice.probabilities is not None
        torch.testing.assert_close(twice.probabilities, alone.probabilities)
        assert (twice.classes == alone.classes).float().mean() > 0.999  # but for ties
        assert twice.n_queried == 2 * alone.n_queried


def test_one_network_is_in_memory_at_a_time(folders: tuple[Path, Path], scan: Path, store: Store) -> None:
    loaded = list[weakref.ref[torch.nn.Module]]()

    def load(folder: Path) -> Predictor:
        assert not any(each() for each in loaded)
        predictor = Predictor.from_checkpoint(folder)
        loaded.append(weakref.ref(predictor.network))
        return predictor

    predictor = EnsemblePredictor.of([Member(each, 1 / 3) for each in (*folders, folders[0])], load)
    predictor(scan)
    predictor.predict(torch.from_numpy(store.case(store.split("validation")[0]).image.astype(np.float32)))
    assert len(loaded) == 9


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"modalities": ("other",)}, "modalities"),
        ({"labels": {"large": 1, "small": 2}}, "labels"),
        ({"regions": {"all": ("a", "b"), "inner": ("b",)}}, "regions"),
        ({"spacing": (2.0, 2.0, 2.0)}, "spacing"),
    ],
)
def test_tasks_that_differ(
    folders: tuple[Path, Path], store: Store, changes: dict[str, Any], name: str
) -> None:
    def load(folder: Path) -> Predictor:
        predictor = Predictor.from_checkpoint(folder)
        if folder == folders[0]:
            return predictor
        if name == "regions":
            labels = list(store.task.labels)
            changes["regions"] = {"all": tuple(labels), "inner": tuple(labels[-1:])}
        return replace(predictor, task=replace(store.task, **changes))

    with pytest.raises(
        UserError, match=f"second: expected {name} .*, found {name} .*; give checkpoints"
    ) as error:
        EnsemblePredictor.of([Member(each, 0.5) for each in folders], load)
    assert "\n" not in str(error.value)


def test_what_is_no_ensemble(folders: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="compile: expected one checkpoint, found 2 checkpoints"):
        load_predictor(read_members(folders), compiled=True)
    (tmp_path / "ensemble.json").write_text("{")
    with pytest.raises(UserError, match=r"ensemble\.json: expected an ensemble"):
        read_members([tmp_path])
    Ensemble((Member(Path("a"), 0.0),), 0.9, 0.8, 2).save(tmp_path)
    with pytest.raises(UserError, match="expected weights above 0"):
        read_members([tmp_path])
    read = partial(read_members, [tmp_path / "missing"])
    with pytest.raises(UserError, match="expected a checkpoint"):
        load_predictor(read())
