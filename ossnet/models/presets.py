"""The named networks and what the paper's two data sets make of them. Light: no torch here."""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from ossnet.models.configs import NetworkConfig, OccupancyConfig, UNetConfig

# Beyond the paper: with what the encoder saw at a point a small decoder is enough.
_QUERY: dict[str, Any] = {
    "feature_query": True,
    "decoder_width": 128,
    "decoder_blocks": 3,
    "coordinates": "normalized",
    "conditional_norm": "feature",
}
_VARIANTS: dict[str, dict[str, Any]] = {
    "o-net": {"skip_connections": False, "auxiliary_head": False, "local_patch": False},
    "oss-net-a": {"skip_connections": False, "auxiliary_head": False},
    "oss-net-b": {"skip_connections": False, "auxiliary_head": False, "mid_range_patch": True},
    "oss-net-c": {},
    "oss-net-d": {"mid_range_patch": True},
    "feature-query": {**_QUERY, "local_patch": False},
    "feature-query-patch": {**_QUERY, "patch_edge": 3},
}


PRESETS: dict[str, NetworkConfig] = {
    **{name: OccupancyConfig(name=name, **switches) for name, switches in _VARIANTS.items()},
    "unet-3d": UNetConfig(name="unet-3d", spatial_dims=3),
    "unet-2d": UNetConfig(name="unet-2d", spatial_dims=2, channels=(24, 48, 96, 192, 384)),
}
"""Every named network, for one channel and one class."""

_CHANNELS: dict[str, int] = {"brats": 4, "lits": 1}
_GRIDS: dict[str, dict[str, Any]] = {
    "brats": {"encoder_channels": (16, 32, 64, 128), "latent_grid": (8, 8, 5)},
    "lits": {"encoder_channels": (8, 16, 32, 64, 128), "latent_grid": (8, 8, 8)},
}


def network_config(name: str, *, dataset: str | None = None, **fields: Any) -> NetworkConfig:
    """The configuration of a preset, as the paper sizes it for a data set, with fields changed.

    `dataset` is "brats" (4 channels, 256x256x160), "lits" (1 channel, 512^3) or None: the structure of the
    BraTS networks with one channel and an 8x8x8 latent, to be sized by the fields. Parameter counts and what
    the published weights need (raw voxel coordinates, scalar statistics in the decoder) are the paper's.

    Raises:
        ValueError: unknown network, data set or field (names the nearest), or a value that cannot be built.
    """
    if name not in PRESETS:
        raise ValueError(_unknown("network", name, PRESETS))
    config = PRESETS[name]
    values = {**_sizes(config, dataset), **fields}
    known = [field.name for field in dataclasses.fields(config) if field.init and field.name != "name"]
    for field in values:
        if field not in known:
            raise ValueError(_unknown(f"field of {name}", field, known))
    return dataclasses.replace(config, **{key: _frozen(value) for key, value in values.items()})


def _sizes(config: NetworkConfig, dataset: str | None) -> Mapping[str, Any]:
    if dataset is None:
        return {}
    if dataset not in _CHANNELS:
        raise ValueError(_unknown("data set", dataset, _CHANNELS))
    grid = _GRIDS[dataset] if isinstance(config, OccupancyConfig) else {}
    return {"in_channels": _CHANNELS[dataset], **grid}


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _unknown(what: str, found: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(found, list(known), n=1, cutoff=0.0)[0]
    return f"unknown {what} {found!r}: did you mean {nearest!r}?"
