"""Building a network from a name or a configuration."""

from typing import Any

from torch import nn

from ossnet.models.configs import NetworkConfig
from ossnet.models.dense import DenseNetwork
from ossnet.models.occupancy import OccupancyNetwork
from ossnet.models.presets import network_config


def build_network(name: str, *, dataset: str | None = None, **fields: Any) -> nn.Module:
    """A network with fresh weights: `build_network("oss-net-c", dataset="brats", classes=3)`.

    Raises:
        ValueError: unknown network, data set or field (names the nearest), or a value that cannot be built.
    """
    return network_from_config(network_config(name, dataset=dataset, **fields))


def network_from_config(config: NetworkConfig) -> OccupancyNetwork | DenseNetwork:
    """A network with fresh weights from its configuration.

    Raises:
        ValueError: a plug-in builds something that is no network of ours.
    """
    network = config.build()
    if not isinstance(network, OccupancyNetwork | DenseNetwork):
        msg = (
            f"{type(config).__name__}.build: expected an ossnet.models.DenseNetwork, "
            f"found {type(network).__name__}"
        )
        raise ValueError(msg)
    return network
