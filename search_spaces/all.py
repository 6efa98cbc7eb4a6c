"""Everything about an OSS-Net that is worth searching: network, points, patches, optimizer."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Trial

NETWORKS = ["oss-net-a", "oss-net-b", "oss-net-c", "oss-net-d"]
POINTS_TO_EVALUATE = [
    {"network": name, "decoder_width": 512, "decoder_blocks": 5, "patch_edge": 7} for name in NETWORKS
]


def space(trial: "Trial") -> dict[str, Any]:
    """First of all the paper's four variants at their full size."""
    border = trial.suggest_float("border_fraction", 0.0, 0.8)
    rate = trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    return {
        "model": trial.suggest_categorical("network", NETWORKS),
        "model.decoder_width": trial.suggest_categorical("decoder_width", [64, 128, 256, 512]),
        "model.decoder_blocks": trial.suggest_int("decoder_blocks", 2, 6),
        "model.patch_edge": trial.suggest_int("patch_edge", 3, 11, step=2),
        "sampling.points": 2 ** trial.suggest_int("log2_points", 10, 14),
        "sampling.border_fraction": border,
        "sampling.foreground_fraction": trial.suggest_float("foreground_of_rest", 0.0, 0.8) * (1 - border),
        "optimizer.name": trial.suggest_categorical("optimizer", ["lookahead-radam", "adamw"]),
        "optimizer.learning_rate": rate,
        "optimizer.pade_learning_rate": rate,
    }
