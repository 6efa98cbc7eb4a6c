"""Networks and settings whose quality shows within seconds of training: for trying out a search itself."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Trial


def space(trial: "Trial") -> dict[str, Any]:
    """Decoder, patches and points, which take memory; where points lie and the rate, which take none."""
    border = trial.suggest_float("border_fraction", 0.0, 0.8)
    return {
        "model.decoder_width": 2 ** trial.suggest_int("log2_width", 3, 6),
        "model.decoder_blocks": trial.suggest_int("decoder_blocks", 1, 3, step=2),
        "model.patch_edge": trial.suggest_int("patch_edge", 3, 7, step=2),
        "sampling.points": 2 ** trial.suggest_int("log2_points", 5, 9, step=2),
        "sampling.border_fraction": border,
        "sampling.foreground_fraction": trial.suggest_float("foreground_of_rest", 0.0, 0.8) * (1 - border),
        "optimizer.learning_rate": trial.suggest_float("learning_rate", 3e-4, 3e-2, log=True),
    }
