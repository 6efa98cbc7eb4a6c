"""How wide and how deep the decoder of an occupancy network is."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Trial

PRIOR = {"decoder_width": "x1"}


def space(trial: "Trial") -> dict[str, Any]:
    """Width as a multiple of the resolved one, and the number of residual blocks (paper: 512 and 5)."""
    return {
        "model.decoder_width": trial.suggest_categorical(
            "decoder_width", ["x0.25", "x0.5", "x1", "x2", "x4"]
        ),
        "model.decoder_blocks": trial.suggest_int("decoder_blocks", 2, 6),
    }
