"""How many points of a volume an occupancy network trains on, and where they lie."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Trial


def space(trial: "Trial") -> dict[str, Any]:
    """Points, shares of them near the border (width in mm) and inside the foreground; the rest is uniform."""
    border = trial.suggest_float("border_fraction", 0.0, 0.8)
    return {
        "sampling.points": 2 ** trial.suggest_int("log2_points", 10, 14),
        "sampling.border_fraction": border,
        "sampling.border_width": trial.suggest_int("border_width", 1, 8),
        "sampling.foreground_fraction": trial.suggest_float("foreground_of_rest", 0.0, 0.8) * (1 - border),
    }
