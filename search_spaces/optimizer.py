"""How the weights are moved: optimizer, learning rate and schedule."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Trial

PRIOR = {"optimizer": "adamw", "learning_rate": 2e-3, "schedule": "cosine", "weight_decay": 0.0}
POINTS_TO_EVALUATE = [
    PRIOR,
    {"optimizer": "lookahead-radam", "learning_rate": 3e-4, "weight_decay": 1e-6, "schedule": "multistep"},
]


def space(trial: "Trial") -> dict[str, Any]:
    """First of all as resolved, then as in the paper."""
    rate = trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True)
    return {
        "optimizer.name": trial.suggest_categorical("optimizer", ["lookahead-radam", "adamw"]),
        "optimizer.learning_rate": rate,
        "optimizer.pade_learning_rate": rate,
        "optimizer.weight_decay": trial.suggest_float("weight_decay", 0.0, 0.1),
        "optimizer.schedule": trial.suggest_categorical("schedule", ["multistep", "cosine", "constant"]),
    }
