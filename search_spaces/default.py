"""All families of networks around what is resolved for the data: each as it is resolved first, then its size,
its rate and, of occupancy networks, the depth of the decoder and where the points lie."""

from typing import TYPE_CHECKING, Any

from ossnet.models import PRESETS

if TYPE_CHECKING:
    from optuna import Trial

NETWORKS = [
    "feature-query-patch",
    "unet-3d",
    "feature-pyramid",
    "oss-net-c",
    "feature-query",
    "oss-net-d",
    "oss-net-a",
    "oss-net-b",
    "o-net",
    "unet-2d",
]
LEFT_OUT = ["residual-encoder-unet"]  # for a budget that holds it: `baselines` has it
INSTALLED = [name for name in PRESETS if name not in NETWORKS + LEFT_OUT]
SIZES = ["x0.5", "x1", "x2"]

PRIOR = {"learning_rate": 2e-3, "size": "x1", "depth": "x1", "border_fraction": 0.5}
_QUERIED = PRIOR | {"learning_rate": 3e-3, "border_fraction": 0.8}
POINTS_TO_EVALUATE = [
    {"network": name, **(_QUERIED if name.startswith("feature") else PRIOR)} for name in NETWORKS[:4]
]


def space(trial: "Trial") -> dict[str, Any]:
    """A network, its rate, the width of its decoder or of its levels, the share of points at the border."""
    network = trial.suggest_categorical("network", NETWORKS + INSTALLED)
    rate = trial.suggest_float("learning_rate", 5e-4, 8e-3, log=True)
    changes = {"model": network, "optimizer.learning_rate": rate, "optimizer.pade_learning_rate": rate}
    if network in INSTALLED:
        return changes
    size = trial.suggest_categorical("size", SIZES)
    if network.startswith("unet"):
        return changes | {"model.channels": size}
    return changes | {
        "model.decoder_width": size,
        "model.decoder_blocks": trial.suggest_categorical("depth", SIZES),
        "sampling.border_fraction": trial.suggest_float("border_fraction", 0.2, 0.9),
    }
