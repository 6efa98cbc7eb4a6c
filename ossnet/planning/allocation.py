"""How a study spends its time: how many trials, how long each, and where they are compared."""

from dataclasses import dataclass
from math import floor, sqrt

from ossnet.output.duration import format_duration

TRIAL_START_S = 5.0
"""What a trial takes until its first step."""
_CLOSING = (0.12, 8.0, 25.0)  # of the time, for the report and the end: a share, at least and at most so much
_REFIT = 1 / 3  # of what is left then, for the last training
_LEAST_REFIT = 2.0  # of the shortest trials, that a last training is worth
_ENSEMBLE = 0.1  # and for the choice of an ensemble
_LEAST_STEPS = 250  # in which a network learns something
_LEAST_TRIAL_S = 20.0
_VALIDATIONS = 0.15  # of a trial's time that its validations take together
_MOST_RUNGS = 3
_LEAST_TO_FIRST_RUNG_S = 2.0
_ASYNCHRONOUS = 1.2  # the first to come to a rung goes on, whatever its rank
_STARTABLE = 0.35  # of its time, with which a trial is still worth a start


@dataclass(frozen=True)
class Allocation:
    """The plan of a study of limited time; seconds."""

    trials: int
    """Configurations to try, at most."""
    trial_s: float
    """Time of each, its start included."""
    rungs: tuple[float, ...]
    """Shares of a trial's time at which it is validated and compared, ascending; besides its end."""
    search_s: float
    """Time for all trials."""
    refit_s: float
    """Time to train the best network on."""
    closing_s: float
    """Time for the report and the end."""
    ensemble_s: float = 0.0
    """Time to choose an ensemble."""

    @property
    def startable_s(self) -> float:
        """The least time with which a trial is worth a start."""
        return _STARTABLE * self.trial_s

    def __str__(self) -> str:
        rungs = ", ".join(f"{100 * share:.3g} %" for share in self.rungs)
        compared = f", compared at {rungs} of it" if rungs else ""
        refit = f"; {format_duration(self.refit_s)} to train the best one on" if self.refit_s else ""
        ensemble = f"; {format_duration(self.ensemble_s)} for an ensemble" if self.ensemble_s else ""
        return (
            f"about {self.trials} trials of up to {format_duration(self.trial_s)} each{compared}; "
            f"{format_duration(self.search_s)} for all of them{refit}{ensemble}"
        )


def allocate(
    time_s: float,
    *,
    slots: int,
    step_s: float = 0.0,
    validation_s: float = 0.0,
    start_s: float = 0.0,
    trials: int | None = None,
    reduction_factor: int | None = 2,
    brackets: int = 1,
    refit: bool = False,
    ensemble: bool = False,
    closing_s: float | None = None,
) -> Allocation:
    """Plan a study.

    With more time there are more trials and longer ones, each in proportion to its square root.

    Args:
        time_s: until everything has to have ended.
        slots: trials that run at once.
        step_s: a training step's time, as far as it is known.
        validation_s: a validation's.
        start_s: what a trial takes until its first step.
        trials: the largest number of them, where one was given.
        reduction_factor: the ratio of the times of adjacent rungs; None: no trial is stopped early.
        brackets: of Hyperband; each begins a rung later than the one before, with fewer trials.
        refit: train the best network on in the end, if the time suffices; trials are as long as without.
        ensemble: choose an ensemble then.
        closing_s: what the report and the end take; by default a share of the time.
    """
    if closing_s is None:
        share, least, most = _CLOSING
        closing_s = min(max(share * time_s, least), most, 0.5 * time_s)
    shortest = max(_LEAST_STEPS * step_s, validation_s / _VALIDATIONS, _LEAST_TRIAL_S) + start_s
    refit_s = _REFIT * (time_s - closing_s)
    if not refit or refit_s < _LEAST_REFIT * shortest:
        refit_s = 0.0
    ensemble_s = _ENSEMBLE * (time_s - closing_s) if ensemble else 0.0
    search_s = time_s - closing_s - refit_s - ensemble_s
    trial_s = min(sqrt(shortest * (search_s + refit_s)), search_s)
    rungs = _rungs(trial_s, validation_s, start_s, reduction_factor)
    cost = _mean_share(rungs, reduction_factor, brackets)
    count = max(floor(slots * search_s / (cost * trial_s)), slots, 1)
    if trials is not None and trials < count:
        count = trials
        rounds = max(count * cost / slots, 1.0)
        trial_s = search_s / rounds
        rungs = _rungs(trial_s, validation_s, start_s, reduction_factor)
    return Allocation(count, trial_s, rungs, search_s, refit_s, closing_s, ensemble_s)


def _rungs(
    trial_s: float, validation_s: float, start_s: float, reduction_factor: int | None
) -> tuple[float, ...]:
    """The rungs that a trial's time affords, the first of them no sooner than it can have learnt anything."""
    factor = reduction_factor or 2
    affordable = floor(_VALIDATIONS * trial_s / max(validation_s, 1e-9)) - 1  # the end validates too
    count = min(affordable, _MOST_RUNGS)
    earliest = max(2 * validation_s, _LEAST_TO_FIRST_RUNG_S)
    while count > 1 and factor**-count * (trial_s - start_s) < earliest:
        count -= 1
    return tuple(float(factor) ** -index for index in range(max(count, 0), 0, -1))


def _mean_share(rungs: tuple[float, ...], reduction_factor: int | None, brackets: int) -> float:
    """The share of its time that a trial takes on average over all brackets."""
    last = min(brackets, max(len(rungs), 1)) - 1
    ratio = 1 / (reduction_factor or 1)
    shares = [_expected_share(rungs[bracket:], reduction_factor) for bracket in range(last + 1)]
    weights = [ratio**bracket * (1 - ratio) for bracket in range(last)] + [ratio**last]
    return sum(weight * share for weight, share in zip(weights, shares, strict=True))


def _expected_share(rungs: tuple[float, ...], reduction_factor: int | None) -> float:
    """The share of its time that a trial takes on average, where the best of each rung continue."""
    if reduction_factor is None or not rungs:
        return 1.0
    ends = (*rungs, 1.0)
    share = rungs[0] + sum(
        (ends[index + 1] - rung) * reduction_factor ** -(index + 1) for index, rung in enumerate(rungs)
    )
    return min(share * _ASYNCHRONOUS, 1.0)
