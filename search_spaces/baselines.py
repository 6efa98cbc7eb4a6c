"""The paper's network and what it must be judged against: each as it is resolved first, then others."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Trial

NETWORKS = ["oss-net-c", "o-net", "unet-3d", "unet-2d", "residual-encoder-unet"]
PRIOR = {"size": "x1", "learning_rate": 2e-3}
POINTS_TO_EVALUATE = [{"network": name, **PRIOR} for name in NETWORKS]


def space(trial: "Trial") -> dict[str, Any]:
    """A network, its width as a multiple of the resolved one, and the learning rate that suits it."""
    network = trial.suggest_categorical("network", NETWORKS)
    rate = trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    width = "model.channels" if "unet" in network else "model.decoder_width"
    return {
        "model": network,
        "optimizer.learning_rate": rate,
        "optimizer.pade_learning_rate": rate,
        width: trial.suggest_categorical("size", ["x0.25", "x0.5", "x1", "x2"]),
    }
