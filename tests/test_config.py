"""The configuration tree: presets, dotted paths, JSON, and what does not fit."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ossnet.config import Config
from ossnet.data import Store
from ossnet.data.store.quantization import Storage
from ossnet.errors import UserError
from ossnet.models import PRESETS
from ossnet.sampling.sampler import check_batch


def with_regions(store: Store) -> Store:
    task = replace(store.task, regions={"all": tuple(store.task.labels), "a": tuple(store.task.labels)[:1]})
    return Store(store.root, replace(store.manifest, task=task))


@pytest.mark.parametrize("name", PRESETS)
def test_json_gives_the_same_configuration_back(name: str, tmp_path: Path) -> None:
    config = Config.preset(name)
    assert Config.from_json(config.to_json()) == config
    file = tmp_path / "config.json"
    file.write_text(config.to_json())
    assert Config.from_json(file) == config


def test_dotted_paths_replace_and_keep_types() -> None:
    config = Config.preset("oss-net-c").replace(
        {
            "model.decoder_width": 64,
            "model.encoder_channels": [8, 16],
            "sampling.border_fraction": 1,
            "training.max_time_s": 20.5,
        }
    )
    assert config.flatten()["model.decoder_width"] == 64
    assert config.flatten()["model.encoder_channels"] == [8, 16]
    assert config.sampling.border_fraction == 1.0
    assert config.training.max_time_s == 20.5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model.decoder_widht": 64}, ["model.decoder_widht", "model.decoder_width"]),
        ({"sampling.border-fraction": 0.5}, ["sampling.border_fraction"]),
        ({"training.epochs": "many"}, ["training.epochs", "whole number", "many"]),
        ({"model.patch_edge": 4}, ["patch_edge", "odd"]),
        ({"training.precision": "fp8"}, ["training.precision", "bf16"]),
        ({"optimizer.milestones": 0.5}, ["optimizer.milestones", "list"]),
    ],
)
def test_what_does_not_fit_is_named(changes: dict[str, object], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        Config.preset("oss-net-c").replace(changes)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_an_unknown_key_of_a_file_names_the_nearest() -> None:
    values = json.loads(Config.preset("unet-3d").to_json())
    values["training"]["epoch"] = 3
    with pytest.raises(UserError, match=r"training\.epoch'.*training\.epochs"):
        Config.from_json(json.dumps(values))


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UserError, match="oss-net-c"):
        Config.preset("oss-net-cc")


def test_text_that_is_no_json_is_refused() -> None:
    with pytest.raises(UserError, match="expected JSON"):
        Config.from_json("{")


@pytest.mark.parametrize("name", ["oss-net-c", "unet-3d"])
def test_overlapping_classes_are_those_of_the_data(name: str, phantom_store: Path) -> None:
    store = Store.open(phantom_store)
    assert store.task.classes > 1
    config = Config.preset(name, store)
    with pytest.raises(
        UserError, match=r"^model\.overlapping: expected false, as the store .*, found true; leave it out$"
    ):
        config.replace({"model.overlapping": True}).resolve_for(store)
    regions = with_regions(store)
    assert Config.preset(name, regions).resolve_for(regions).model.overlapping
    with pytest.raises(
        UserError,
        match=r"^model\.overlapping: expected true, as the store .* overlap, found false; leave it out$",
    ):
        Config.preset(name, regions).replace({"model.overlapping": False}).resolve_for(regions)
    assert config.resolve_for(store).sampling.working_shape is not None


@pytest.mark.parametrize(("storage", "expected"), [("float16", "float16"), ("int16", "float32")])
def test_patches_are_as_precise_as_the_store(storage: Storage, expected: str, phantom_store: Path) -> None:
    store = Store.open(phantom_store)
    entries = dict(store.manifest.cases)
    last = list(entries)[-1]
    statistics = replace(entries[last].statistics, storage=storage)
    entries[last] = replace(entries[last], statistics=statistics)
    changed = Store(store.root, replace(store.manifest, cases=entries))
    config = Config.preset("oss-net-d", changed).resolve_for(changed)
    assert config.sampling.image_dtype == expected
    assert (
        config.replace({"sampling.image_dtype": "float32"}).resolve_for(store).sampling.image_dtype
        == "float32"
    )


@pytest.mark.parametrize(("cases", "expected"), [(1, 1), (5, 5), (8, 8)])
def test_the_batch_of_a_preset_is_at_most_the_training_split(
    cases: int, expected: int, phantom_store: Path
) -> None:
    store = Store.open(phantom_store)
    few = {"training": store.split("training")[:cases], "validation": (), "test": ()}
    small = Store(store.root, replace(store.manifest, splits=few))
    assert Config.preset("unet-3d", small).training.batch_size == expected
    check_batch(cases, expected, 1)


def test_a_preset_without_a_store_has_the_batch_of_the_paper() -> None:
    assert Config.preset("oss-net-c").training.batch_size == 8
