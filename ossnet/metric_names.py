"""Names in results that more than one part looks up."""

from collections.abc import Mapping

VAL_DICE = "dice/val"
MEMORY = "memory/peak_allocated_gib"
PREDICTED = "memory/predicted_gib"
STEP_TIME = "time/step_s"
CASE_TIME = "time/case_s"
ELAPSED = "time/elapsed_s"
"""Of training and validation, over all tries of a run."""
GPU_HOURS = "cost/gpu_hours"
"""The same in hours, times the GPUs (or the part of one) that the run held."""
GPUS = "gpus"
"""Tag of a trial: the part of a GPU that it held last."""
COST = "cost/cpu_s"
"""CPU time of the trial's process since its training began, or went on."""
EPOCH = "epoch"
FINAL = "final"
"""1 in a run's last result: it came to its own end."""
MISTAKE = "mistake"
"""Why a run failed, where every further try would fail the same way."""
OUT_OF_MEMORY = "out_of_memory_gib"
"""In the last result of a run that was given no more memory: what its device has."""
INFEASIBLE = "infeasible"
"""Tag of a trial over the memory budget, and how that was found: predicted, measured, or out of memory."""
EARLY = "early"
"""Why a run was stopped: the scheduler found it behind."""
VARIED = "varied"
"""Tag of a trial's run: the configuration paths that its space decided, with commas between."""
RESUMED = "resumed_from"
"""Tag of a run that went on after a loss: the checkpoint it took up last."""


def told(metrics: Mapping[str, float]) -> dict[str, str]:
    """Dice and peak memory for people."""
    dice = f"{metrics[VAL_DICE]:.4f}" if VAL_DICE in metrics else "not measured"
    memory = f"{metrics[MEMORY]:.3f} GiB" if MEMORY in metrics else "not measured"
    return {"Dice": dice, "peak memory": memory}
