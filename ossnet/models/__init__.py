"""Networks: one a file, a registry, the paper's presets; torch, and monai for U-Nets."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ossnet.models.configs import NetworkConfig, OccupancyConfig, UNetConfig
from ossnet.models.presets import PRESETS, network_config

if TYPE_CHECKING:
    from ossnet.models.compilation import compile_arithmetic
    from ossnet.models.occupancy import Latent, OccupancyNetwork, Prediction
    from ossnet.models.reference_weights import import_reference_weights
    from ossnet.models.registry import build_network, network_from_config
    from ossnet.models.unet import UNet

_HOMES = {
    "Latent": "occupancy",
    "OccupancyNetwork": "occupancy",
    "Prediction": "occupancy",
    "UNet": "unet",
    "build_network": "registry",
    "compile_arithmetic": "compilation",
    "import_reference_weights": "reference_weights",
    "network_from_config": "registry",
}

__all__ = [
    "PRESETS",
    "Latent",
    "NetworkConfig",
    "OccupancyConfig",
    "OccupancyNetwork",
    "Prediction",
    "UNet",
    "UNetConfig",
    "build_network",
    "compile_arithmetic",
    "import_reference_weights",
    "network_config",
    "network_from_config",
]


def __getattr__(name: str) -> Any:
    """What needs torch is loaded when it is asked for."""
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
