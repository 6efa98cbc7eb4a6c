"""From a name or a configuration to a network."""

from typing import Any

from torch import nn

from ossnet.models.configs import NetworkConfig, OccupancyConfig
from ossnet.models.occupancy import OccupancyNetwork
from ossnet.models.presets import network_config
from ossnet.models.unet import UNet


def build_network(name: str, *, dataset: str | None = None, **fields: Any) -> nn.Module:
    """A network with fresh weights: `build_network("oss-net-c", dataset="brats", classes=3)`.

    Raises:
        ValueError: unknown network, data set or field (names the nearest), or a value that cannot be built.
    """
    return network_from_config(network_config(name, dataset=dataset, **fields))


def network_from_config(config: NetworkConfig) -> OccupancyNetwork | UNet:
    """A network with fresh weights from its configuration."""
    return OccupancyNetwork(config) if isinstance(config, OccupancyConfig) else UNet(config)
