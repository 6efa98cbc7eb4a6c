"""The trials that `bench simulate` was fed with: the same in every study, whatever ran at once."""

from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Trial

NETWORKS = ["feature-query-patch", "unet-3d", "feature-pyramid", "oss-net-c", "feature-query", "unet-2d"]
SIZES = ["x0.5", "x1", "x2"]
RATES = [5e-4, 1e-3, 2e-3, 4e-3, 8e-3]

_draw = Random(0).choice
POINTS_TO_EVALUATE = [
    {"network": NETWORKS[number % len(NETWORKS)], "size": _draw(SIZES), "rate": _draw(RATES)}
    for number in range(12)
]


def space(trial: "Trial") -> dict[str, Any]:
    """A network, the width of its decoder or of its levels, and its rate."""
    network = trial.suggest_categorical("network", NETWORKS)
    size, rate = trial.suggest_categorical("size", SIZES), trial.suggest_categorical("rate", RATES)
    width = "model.channels" if network.startswith("unet") else "model.decoder_width"
    return {"model": network, width: size, "optimizer.learning_rate": rate}
