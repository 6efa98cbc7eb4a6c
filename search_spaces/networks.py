"""All networks compared, each at several sizes, those of installed packages at their own; first of all each
one at its smallest."""

from typing import TYPE_CHECKING, Any

from ossnet.models import PRESETS

if TYPE_CHECKING:
    from optuna import Trial

NETWORKS = [
    "oss-net-c",
    "feature-query",
    "oss-net-d",
    "oss-net-a",
    "oss-net-b",
    "o-net",
    "unet-3d",
    "unet-2d",
    "feature-query-patch",
]
INSTALLED = [name for name in PRESETS if name not in NETWORKS]
UNET_CHANNELS = {"s": (8, 16, 32, 64), "m": (16, 32, 64, 128), "l": (32, 64, 128, 256)}

POINTS_TO_EVALUATE = [
    {"network": name} | ({"channels": "s"} if name.startswith("unet") else {"decoder_width": 64})
    for name in NETWORKS
] + [{"network": name} for name in INSTALLED]


def space(trial: "Trial") -> dict[str, Any]:
    """A network; the decoder's width of an occupancy network, the channels of a U-Net."""
    network = trial.suggest_categorical("network", NETWORKS + INSTALLED)
    if network in INSTALLED:
        return {"model": network}
    if network.startswith("unet"):
        channels = trial.suggest_categorical("channels", list(UNET_CHANNELS))
        return {"model": network, "model.channels": UNET_CHANNELS[channels]}
    width = trial.suggest_categorical("decoder_width", [64, 128, 256, 512])
    return {"model": network, "model.decoder_width": width}
