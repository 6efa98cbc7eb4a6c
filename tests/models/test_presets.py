"""Names, fields and data sets: what is built, and what is refused by name."""

import subprocess
import sys

import pytest
from torch import nn

from ossnet import config_tree as tree
from ossnet.models import (
    PRESETS,
    OccupancyConfig,
    UNetConfig,
    build_network,
    network_config,
    network_from_config,
)


def test_the_presets_are_the_papers_ours_and_the_baselines() -> None:
    paper = {"o-net", "oss-net-a", "oss-net-b", "oss-net-c", "oss-net-d"}
    occupancy = paper | {"feature-query", "feature-query-patch", "feature-pyramid"}
    assert set(PRESETS) == occupancy | {"unet-3d", "unet-2d", "residual-encoder-unet"}
    assert all(config.name == name for name, config in PRESETS.items())
    assert {name for name, config in PRESETS.items() if config.kind == "occupancy"} == occupancy


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_built_with_fields_of_its_own(name: str) -> None:
    fields = {"channels": (4, 8)} if "unet" in name else {"decoder_width": 32, "encoder_channels": [4, 8]}
    network = build_network(name, in_channels=3, classes=2, **fields)
    assert isinstance(network, nn.Module)
    assert network.config == network_config(name, in_channels=3, classes=2, **fields)
    assert network.config.logits == 3
    again = network_from_config(tree.from_dict(type(network.config), tree.to_dict(network.config)))
    assert again.config == network.config


def test_the_papers_coordinates_are_raw_without_a_data_set_too() -> None:
    for name in ("o-net", "oss-net-a", "oss-net-b", "oss-net-c", "oss-net-d"):
        config = network_config(name)
        assert isinstance(config, OccupancyConfig)
        assert (config.coordinates, config.conditional_norm, config.patch_edge) == ("voxel", "scalar", 7)


def test_outputs_are_one_a_class_or_one_more_for_the_background() -> None:
    assert [OccupancyConfig(classes=classes).logits for classes in (1, 2, 3)] == [1, 3, 4]
    assert [UNetConfig(classes=classes, overlapping=True).logits for classes in (1, 2, 3)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("oss-net-e", {}, "expected a known network, found 'oss-net-e'; did you mean 'oss-net-"),
        ("unet3d", {}, "expected a known network, found 'unet3d'; did you mean 'unet-3d'"),
        (
            "oss-net-c",
            {"dataset": "brats2020"},
            "expected a known data set, found 'brats2020'; did you mean 'brats'",
        ),
        (
            "oss-net-c",
            {"decoder_widht": 3},
            "oss-net-c: expected a known field, found 'decoder_widht'; did you mean 'decoder_width'",
        ),
        ("unet-3d", {"decoder_width": 3}, "unet-3d: expected a known field, found 'decoder_width'"),
        ("oss-net-c", {"patch_edge": 4}, "patch_edge: expected an odd number from 3 to 11, found 4"),
        ("oss-net-c", {"patch_edge": 13}, "patch_edge: expected an odd number from 3 to 11, found 13"),
        ("oss-net-c", {"classes": 0}, "classes: expected at least 1, found 0"),
        ("oss-net-c", {"encoder_channels": ()}, "encoder_channels: expected positive numbers, one or more"),
        (
            "oss-net-c",
            {"latent_grid": (1, 1, 1)},
            "latent_grid: expected three positive numbers with two cells",
        ),
        ("oss-net-c", {"coordinates": "mm"}, "coordinates: expected one of voxel, normalized, found 'mm'"),
        ("unet-3d", {"channels": (8,)}, "channels: expected two levels or more"),
        ("unet-3d", {"spatial_dims": 4}, "spatial_dims: expected one of 2, 3, found 4"),
    ],
)
def test_what_cannot_be_built_is_named(name: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_network(name, **fields)


def test_configurations_load_without_torch() -> None:
    code = (
        "import sys, ossnet.models as m; m.PRESETS; m.network_config('o-net'); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
