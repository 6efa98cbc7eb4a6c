"""How wide and how deep the decoder of an occupancy network is."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Trial


def space(trial: "Trial") -> dict[str, Any]:
    """Width in powers of two, and the number of residual blocks (paper: 512 and 5)."""
    return {
        "model.decoder_width": trial.suggest_categorical("decoder_width", [64, 128, 256, 512]),
        "model.decoder_blocks": trial.suggest_int("decoder_blocks", 2, 6),
    }
