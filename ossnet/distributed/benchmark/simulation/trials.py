"""The measured trials that a simulation is fed with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from statistics import fmean
from typing import TYPE_CHECKING

from ossnet.distributed.tuning.trial import TrialEnd
from ossnet.errors import UserError
from ossnet.metric_names import COST, ELAPSED, GPU_HOURS, PREDICTED

if TYPE_CHECKING:
    from ossnet.distributed.reports.study_view import StudyView

_HOUR_S = 3600
_DICE_SPREAD = 0.02  # standard deviation between trials that were drawn from the same one


@dataclass(frozen=True)
class MeasuredTrial:
    """A trial that was trained to its end, with a device of its own."""

    seconds: float
    """Of training and validation: those of the wall on a GPU, of the CPU without one, as what else a machine
    does slows a trial down."""
    start_s: float
    """All else that it held its place for: its process, its data, its last checkpoint."""
    peak_gib: float
    """Predicted peak of a training step."""
    curve: tuple[tuple[int, float], ...]
    """Epochs (or thousandths of its time) at which it was validated, and Dice; the last one is its end."""

    def seconds_at(self, validations: int) -> float:
        """The seconds of training and validation until so many validations are done."""
        return self.seconds * self.curve[validations - 1][0] / self.curve[-1][0] if validations else 0.0


def read_trials(study: "StudyView") -> dict[int, MeasuredTrial]:
    """The trials of a study without early stopping, by their numbers.

    Raises:
        UserError: a trial was stopped early, none was trained to its end, or no peak was predicted.
    """
    if (study.trials["end"] == TrialEnd.STOPPED_EARLY).any():
        raise UserError(
            study.folder,
            expected="trials that were trained to their end",
            found="one that was stopped early",
            remedy="give a study of `ossnet tune --early-stopping.algorithm none`",
        )
    import pandas as pd

    finished = study.trials[study.trials["end"] == TrialEnd.FINISHED]
    if finished.empty or PREDICTED not in finished:
        raise UserError(
            study.folder,
            expected="finished trials, and their predicted peaks",
            found="none",
            remedy="give a study of `ossnet tune --memory-budget 8GiB`, say",
        )
    trials = dict[int, MeasuredTrial]()
    for number, row in finished.iterrows():
        curve = study.curves[number].dropna()
        trials[int(number)] = MeasuredTrial(
            seconds=float(row[COST if pd.isna(row.get(GPU_HOURS)) else ELAPSED]),
            start_s=max((row["ended"] - row["began"]).total_seconds() - float(row[ELAPSED]), 0.0),
            peak_gib=float(row[PREDICTED]),
            curve=tuple((int(epoch), float(dice)) for epoch, dice in curve.items()),
        )
    return trials


def scaled(
    trials: Mapping[int, MeasuredTrial], *, hours: float | None, gib: float | None
) -> list[MeasuredTrial]:
    """Trials with the measured spread of times and peaks around other means.

    Args:
        hours: mean of training and validation; None: as measured. Starts stay as long as they were.
        gib: mean of the predicted peaks; None: as predicted.
    """
    time = 1.0 if hours is None else hours * _HOUR_S / fmean(each.seconds for each in trials.values())
    memory = 1.0 if gib is None else gib / fmean(each.peak_gib for each in trials.values())
    return [
        replace(each, seconds=each.seconds * time, peak_gib=each.peak_gib * memory)
        for each in trials.values()
    ]


def resampled(trials: Sequence[MeasuredTrial], count: int, *, seed: int) -> list[MeasuredTrial]:
    """So many trials drawn with replacement (a smoothed bootstrap), the same ones for a seed.

    The Dice of each is multiplied by a random number near 1, or copies of one trial would tie in every rung.
    """
    random = Random(seed)
    drawn = random.choices(trials, k=count)
    return [_varied(each, random.gauss(1, _DICE_SPREAD)) for each in drawn]


def _varied(trial: MeasuredTrial, factor: float) -> MeasuredTrial:
    return replace(trial, curve=tuple((epoch, dice * factor) for epoch, dice in trial.curve))
