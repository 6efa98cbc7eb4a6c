"""An OSS-Net's decoder, patches and sampling, all together."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Trial

NETWORKS = ["oss-net-a", "oss-net-b", "oss-net-c", "oss-net-d"]


def space(trial: "Trial") -> dict[str, Any]:
    """The variant, its decoder, its patches' edge, and where its points lie."""
    border = trial.suggest_float("border_fraction", 0.0, 0.8)
    return {
        "model": trial.suggest_categorical("network", NETWORKS),
        "model.decoder_width": trial.suggest_categorical("decoder_width", [64, 128, 256, 512]),
        "model.decoder_blocks": trial.suggest_int("decoder_blocks", 2, 6),
        "model.patch_edge": trial.suggest_int("patch_edge", 3, 11, step=2),
        "sampling.points": 2 ** trial.suggest_int("log2_points", 10, 14),
        "sampling.border_fraction": border,
        "sampling.foreground_fraction": trial.suggest_float("foreground_of_rest", 0.0, 0.8) * (1 - border),
    }
