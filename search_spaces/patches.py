"""Which patches around a point the decoder of an OSS-Net is given, and how large they are."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Trial

PATCHES = {"local": (True, False), "mid-range": (False, True), "both": (True, True), "none": (False, False)}


def space(trial: "Trial") -> dict[str, Any]:
    """Kinds of patches, and their edge where there are any (paper: 7)."""
    local, mid_range = PATCHES[trial.suggest_categorical("patches", list(PATCHES))]
    changes: dict[str, Any] = {"model.local_patch": local, "model.mid_range_patch": mid_range}
    if local or mid_range:
        changes["model.patch_edge"] = trial.suggest_int("patch_edge", 3, 11, step=2)
    return changes
