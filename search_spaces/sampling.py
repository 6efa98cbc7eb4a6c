"""How many points of a volume an occupancy network trains on, and where they lie."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Trial

PRIOR = {"points": "x1", "border_fraction": 0.5, "border_width": 3, "foreground_of_rest": 0.0}


def space(trial: "Trial") -> dict[str, Any]:
    """Points as a multiple of the resolved ones, as memory allows; shares of them near the border (width in
    voxels) and inside the foreground; the rest is uniform."""
    border = trial.suggest_float("border_fraction", 0.0, 0.8)
    return {
        "sampling.points": trial.suggest_categorical("points", ["x0.25", "x0.5", "x1", "x2"]),
        "sampling.border_fraction": border,
        "sampling.border_width": trial.suggest_int("border_width", 1, 8),
        "sampling.border_unit": "voxels",
        "sampling.foreground_fraction": trial.suggest_float("foreground_of_rest", 0.0, 0.8) * (1 - border),
    }
