"""Names in results that more than one part looks up."""

from collections.abc import Mapping
from typing import Any

from ossnet.errors import OutOfMemory

SCORE = "dice/val"
MEMORY = "memory/peak_allocated_gib"
STEP_TIME = "time/step_s"
EPOCH = "epoch"
FINAL = "final"
"""1 in a run's last result: it came to its own end."""
MISTAKE = "mistake"
"""Why a run failed, where every further try would fail the same way."""
INFEASIBLE = "infeasible"
"""In a trial's result and its run's tags: the mistake is that memory does not suffice."""
EARLY = "early"
"""Why a run was stopped: the scheduler found it behind."""
VARIED = "varied"
"""Tag of a trial's run: the configuration paths that its space decided, with commas between."""
RESUMED = "resumed_from"
"""Tag of a run that went on after a loss: the checkpoint it took up last."""


def told(metrics: Mapping[str, float]) -> dict[str, str]:
    """Dice and peak memory for people."""
    dice = f"{metrics[SCORE]:.4f}" if SCORE in metrics else "not measured"
    memory = f"{metrics[MEMORY]:.3f} GiB" if MEMORY in metrics else "not measured"
    return {"Dice": dice, "peak memory": memory}


def failed(error: Exception) -> dict[str, Any]:
    """The result of a run that a mistake ended."""
    infeasible = {INFEASIBLE: "out of memory"} if isinstance(error, OutOfMemory) else {}
    return {MISTAKE: str(error), **infeasible}
