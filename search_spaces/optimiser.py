"""How the weights are moved: optimiser, learning rates and schedule."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Trial

FIRST = [
    {"optimiser": "lookahead-radam", "learning_rate": 3e-4, "weight_decay": 1e-6, "schedule": "multistep"}
]


def space(trial: "Trial") -> dict[str, Any]:
    """First of all as in the paper."""
    rate = trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True)
    return {
        "optimiser.name": trial.suggest_categorical("optimiser", ["lookahead-radam", "adamw"]),
        "optimiser.learning_rate": rate,
        "optimiser.pade_learning_rate": rate,
        "optimiser.weight_decay": trial.suggest_float("weight_decay", 0.0, 0.1),
        "optimiser.schedule": trial.suggest_categorical("schedule", ["multistep", "cosine", "constant"]),
    }
