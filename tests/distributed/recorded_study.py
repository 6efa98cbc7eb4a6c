"""A study of three trials on disk, as a search would have left it: no Ray is needed to make it."""

from pathlib import Path

from optuna.trial import TrialState

from ossnet.distributed.tuning.config import OptimizationConfig
from ossnet.distributed.tuning.storage import DATABASE, END, METRICS, NETWORK_NAME, TuningStudy
from ossnet.distributed.tuning.trial import TrialEnd
from ossnet.metric_names import MEMORY, PREDICTED

ENDS = [
    ("unet-3d", TrialEnd.STOPPED_EARLY, {1: 0.25, 2: 0.5}, 0.75),
    ("oss-net-c", TrialEnd.FINISHED, {1: 0.5, 2: 0.75, 4: 0.81}, 0.5),
    ("oss-net-d", TrialEnd.INFEASIBLE_PREDICTED, {}, None),
]
"""Of each trial the network, the end, Dice by epoch, and the measured peak in GiB."""


def write_study(folder: Path) -> TuningStudy:
    """One trial that was stopped early, one that finished, and one that was too large to start."""
    folder.mkdir(parents=True, exist_ok=True)
    study = TuningStudy.open_or_create(folder / DATABASE, "mine", OptimizationConfig(budget_gib=1.0))
    for number, (network, end, curve, gib) in enumerate(ENDS):
        study.enqueue_trial({"width": 8 << number})
        trial = study.ask()
        trial.suggest_categorical("width", [8, 16, 32])
        for epoch, dice in curve.items():
            trial.report(dice, epoch)
        measured = {} if gib is None else {MEMORY: gib}
        attributes = {NETWORK_NAME: network, PREDICTED: gib or 1.5, METRICS: measured, END: end}
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        if end is TrialEnd.FINISHED:
            study.tell(trial, max(curve.values()))
        else:
            study.tell(trial, state=TrialState.PRUNED)
    return study
