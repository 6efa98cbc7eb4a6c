"""The named networks and what the paper's two data sets make of them. Light: no torch here."""

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ossnet.models.configs import (
    DenseConfig,
    NetworkConfig,
    OccupancyConfig,
    ResidualEncoderUNetConfig,
    UNetConfig,
)
from ossnet.plugins import Group

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
    # Hippocampus, one seed, two volumes a step, decoder 64 wide and 2 deep: Dice 0.869 in 300 CPU seconds and
    # 0.878 in 900, with a peak of 0.060 GiB; unet-3d has 0.851 in 300, with 0.141 GiB.
    "feature-query-patch": {**_QUERY, "patch_edge": 3},
    # The same: 0.864 in 300 with 0.097 GiB; decoder 128 wide and 3 deep 0.858, and 0.872 in 900.
    "feature-pyramid": {
        **_QUERY,
        "patch_edge": 3,
        "encoder_channels": (8, 16, 32, 64, 128),  # half as wide: the finest map is at full resolution
        "pyramid_channels": 16,
    },
}


_BUILT_IN: dict[str, NetworkConfig] = {
    **{name: OccupancyConfig(name=name, **switches) for name, switches in _VARIANTS.items()},
    "unet-3d": UNetConfig(name="unet-3d", spatial_dims=3),
    "unet-2d": UNetConfig(name="unet-2d", spatial_dims=2, channels=(24, 48, 96, 192, 384)),
    "residual-encoder-unet": ResidualEncoderUNetConfig(),
}
_BUILT_IN_KINDS: dict[str, type[NetworkConfig]] = {
    "occupancy": OccupancyConfig,
    "unet": UNetConfig,
    "residual-encoder-unet": ResidualEncoderUNetConfig,
}


def _check_plugin(name: str, value: object) -> type[NetworkConfig]:
    """The configuration class of an installed network.

    Raises:
        ValueError: it is something else, or its kind or presets have other names than they should.
    """
    if not (isinstance(value, type) and issubclass(value, DenseConfig | OccupancyConfig)):
        raise ValueError(f"expected a class below ossnet.models.DenseConfig, found {value!r}")
    parameters = vars(value).get("__dataclass_params__")
    if parameters is None or not parameters.frozen:
        raise ValueError(f"expected a frozen dataclass, found {value.__name__}, which is none")
    if value.kind != name:
        raise ValueError(f"expected {value.__name__}.kind to be {name!r}, found {value.kind!r}")
    presets = value.presets()
    for preset, config in presets.items():
        if not isinstance(config, value) or config.name != preset:
            raise ValueError(
                f"expected presets() to give a {value.__name__} named {preset!r}, found {config!r}"
            )
    return value


def _claims(kind: str, presets: Iterable[str]) -> list[str]:
    return [f"kind {kind}", *(f"network {preset}" for preset in presets)]


_PLUGINS = Group(
    "ossnet.networks",
    check=_check_plugin,
    built_in=[claim for kind in _BUILT_IN_KINDS for claim in _claims(kind, _BUILT_IN)],
    claims=lambda kind, config: _claims(kind, config.presets()),
)


class _Presets(Mapping[str, NetworkConfig]):
    """The built-in networks, then those of installed packages, which are loaded only where needed."""

    def __getitem__(self, name: str) -> NetworkConfig:
        if name in _BUILT_IN:
            return _BUILT_IN[name]
        return self._installed()[name]

    def __iter__(self) -> Iterator[str]:
        yield from (*_BUILT_IN, *self._installed())

    def __len__(self) -> int:
        return len(_BUILT_IN) + len(self._installed())

    def _installed(self) -> dict[str, NetworkConfig]:
        classes = _PLUGINS.plugins().values()
        return {name: config for each in classes for name, config in each.presets().items()}


PRESETS: Mapping[str, NetworkConfig] = _Presets()
"""Every named network, for one channel and one class."""


def network_kinds() -> Mapping[str, type[NetworkConfig]]:
    """Every kind of network, built in or installed, with the class of its configurations."""
    return {**_BUILT_IN_KINDS, **_PLUGINS.plugins()}


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
        raise _unknown("model", "network", name, PRESETS, list_all=True)
    config = PRESETS[name]
    values = {**_sizes(config, dataset), **fields}
    known = [field.name for field in dataclasses.fields(config) if field.init and field.name != "name"]
    for field in values:
        if field not in known:
            raise _unknown(name, "field", field, known)
    return dataclasses.replace(config, **{key: _frozen(value) for key, value in values.items()})


def _sizes(config: NetworkConfig, dataset: str | None) -> Mapping[str, Any]:
    if dataset is None:
        return {}
    if dataset not in _CHANNELS:
        raise _unknown("dataset", "data set", dataset, _CHANNELS)
    grid = _GRIDS[dataset] if isinstance(config, OccupancyConfig) else {}
    return {"in_channels": _CHANNELS[dataset], **grid}


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _unknown(
    where: str, what: str, found: object, known: Iterable[str], *, list_all: bool = False
) -> ValueError:
    nearest = difflib.get_close_matches(str(found), list(known), n=1, cutoff=0.0)[0]
    others = f" There are {', '.join(known)}" if list_all else ""
    return ValueError(f"{where}: expected a known {what}, found {found!r}; did you mean {nearest!r}?{others}")
