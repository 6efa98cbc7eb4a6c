"""The paper's network and what it must be judged against: each at its full size first, then others."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Trial

NETWORKS = ["oss-net-c", "o-net", "unet-3d", "unet-2d"]
CHANNELS = {"s": (8, 16, 32, 64), "m": (16, 32, 64, 128), "l": (32, 64, 128, 256)}
POINTS_TO_EVALUATE = [
    {"network": name} | ({"channels": "l"} if name.startswith("unet") else {"decoder_width": 512})
    for name in NETWORKS
]


def space(trial: "Trial") -> dict[str, Any]:
    """A network, its size, and the learning rate that suits it."""
    network = trial.suggest_categorical("network", NETWORKS)
    rate = trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    changes = {"model": network, "optimizer.learning_rate": rate, "optimizer.pade_learning_rate": rate}
    if network.startswith("unet"):
        return changes | {"model.channels": CHANNELS[trial.suggest_categorical("channels", list(CHANNELS))]}
    width = trial.suggest_categorical("decoder_width", [64, 128, 256, 512])
    return changes | {"model.decoder_width": width}
