"""How wide and how deep the encoder of an occupancy network is."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Trial

PRIOR = {"encoder_width": 16}


def space(trial: "Trial") -> dict[str, Any]:
    """Channels of its first level, doubled at each further one; levels; how coarse a volume it is given."""
    first = trial.suggest_categorical("encoder_width", [8, 16, 32])
    levels = trial.suggest_int("encoder_levels", 2, 5)
    return {
        "model.encoder_channels": tuple(first * 2**level for level in range(levels)),
        "model.encoder_downscale": trial.suggest_categorical("encoder_downscale", [1, 2, 4]),
    }
