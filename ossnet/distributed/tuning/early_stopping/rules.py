"""The rules of early stopping, without Ray: which of the trials that came to a rung go on from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median

from ossnet.distributed.tuning.config import EarlyStoppingConfig
from ossnet.distributed.tuning.early_stopping.ranking import nondominated_ranks, scores

_FEWEST = 3  # trials whose median is meaningful


@dataclass
class LearningCurve:
    """What is known of a trial."""

    dice: dict[int, float] = field(default_factory=dict)
    """Validation Dice by epoch, or by thousandths of a trial's time."""
    costs: tuple[float, ...] = ()
    """The values of the other objectives, as they were known at the first validation."""

    def losses(self, epoch: int) -> tuple[float, ...]:
        """What is to be small, at an epoch with a validation."""
        return (-self.dice[epoch], *self.costs)


class StoppingRule:
    """Compares the trials of a study, each with those that came as far as it did.

    With a single objective that is by Dice. With several, trials are ranked as in MO-ASHA (Schmucker et al.,
    2021): by non-dominated fronts, and in a front the least crowded first; and none on the front of those
    that came as far is stopped.

    Args:
        first_rung: the epoch of the first rung, or of the least that every trial gets.
        end: the epoch at which trials end; a bracket has a rung before it.
        history: learning curves of an earlier session, by the trial's number.
    """

    def __init__(
        self,
        config: EarlyStoppingConfig,
        *,
        first_rung: int,
        end: int,
        history: Mapping[int, LearningCurve],
    ) -> None:
        self._config, self._first_rung = config, first_rung
        rungs = 0
        while first_rung * config.reduction_factor**rungs < end:
            rungs += 1
        self._brackets = max(min(config.most_brackets, rungs), 1)
        self._curves = {
            number: LearningCurve(dict(each.dice), each.costs) for number, each in history.items()
        }

    def add(self, number: int, epoch: int, dice: float, costs: tuple[float, ...] = ()) -> None:
        """Take note of a validation; the first of each epoch counts, and the costs of a trial's first.

        Args:
            costs: values of the objectives besides Dice, all to be small.
        """
        self._curves.setdefault(number, LearningCurve({}, costs)).dice.setdefault(epoch, dice)

    def should_stop(self, number: int, epoch: int, dice: float, costs: tuple[float, ...] = ()) -> bool:
        """Whether a trial that comes to an epoch with this Dice is behind the others."""
        bracket = self._bracket(number)
        first_rung = self._first_rung * self._config.reduction_factor**bracket
        if epoch < first_rung or self._config.algorithm == "none":
            return False
        own = self._curves.get(number, LearningCurve({}, costs))
        others = [
            curve
            for other, curve in self._curves.items()
            if other != number and self._bracket(other) == bracket
        ]
        if self._config.algorithm == "median":
            best = max([*own.dice.values(), dice])
            return _is_below_median((-best, *own.costs), epoch, others)
        rung = first_rung
        while rung * self._config.reduction_factor <= epoch:
            rung *= self._config.reduction_factor
        if any(known >= rung for known in own.dice):  # it was allowed to continue from there
            return False
        arrivals = ((curve, _arrival(curve, rung)) for curve in others)
        competitors = [curve.losses(at) for curve, at in arrivals if at is not None]
        losses = [(-dice, *own.costs), *competitors]
        if not competitors or _is_on_front(losses):
            return False
        own_score, *other_scores = scores(losses)
        if (
            own_score <= min(other_scores) < max(other_scores)
        ):  # among many last ones, as those of a Dice of 0
            return True
        return own_score < _cutoff(other_scores, self._config.reduction_factor)

    def _bracket(self, number: int) -> int:
        return bracket_of(number, reduction_factor=self._config.reduction_factor, brackets=self._brackets)


def bracket_of(number: int, *, reduction_factor: int, brackets: int) -> int:
    """The bracket of a trial, the same in every session: how often its number, from 1, can be divided.

    So each bracket has as many times fewer trials than the one before as its first rung is later, but for the
    last one, which has those of further ones as well; and all of them grow at the same time.
    """
    bracket, left = 0, number + 1
    while bracket < brackets - 1 and left % reduction_factor == 0:
        bracket, left = bracket + 1, left // reduction_factor
    return bracket


def _is_below_median(losses: tuple[float, ...], epoch: int, others: Sequence[LearningCurve]) -> bool:
    """Whether a trial's best Dice is below the median of the others' means, and it is not on their front."""
    curves = [curve for curve in others if min(curve.dice) <= epoch <= max(curve.dice)]
    until = [[dice for at, dice in curve.dice.items() if at <= epoch] for curve in curves]
    if len(curves) < _FEWEST or -losses[0] >= median(map(fmean, until)):
        return False
    best = [(-max(dice), *curve.costs) for curve, dice in zip(curves, until, strict=True)]
    return not _is_on_front([losses, *best])


def _is_on_front(losses: Sequence[tuple[float, ...]]) -> bool:
    """Whether no other dominates the first one, where there are several objectives."""
    return len(losses[0]) > 1 and nondominated_ranks(losses)[0] == 0


def _arrival(curve: LearningCurve, rung: int) -> int | None:
    """The epoch at which a trial came to a rung."""
    return min((epoch for epoch in curve.dice if epoch >= rung), default=None)


def _cutoff(values: Sequence[float], reduction_factor: int) -> float:
    import numpy as np

    return float(np.percentile(values, (1 - 1 / reduction_factor) * 100))
