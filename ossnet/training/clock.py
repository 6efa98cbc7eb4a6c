"""The time of a run: what a step, a case and a checkpoint take, when it validates and when it ends."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import floor
from typing import Protocol

from ossnet.errors import TimeTooShort
from ossnet.metric_names import EXPECTED_EPOCH, EXPECTED_EPOCHS, EXPECTED_STEP, EXPECTED_VALIDATION
from ossnet.output.duration import format_duration

_CLOSING_S = 1.0
"""A checkpoint, before the first was written."""
_STEP_MARGIN, _VALIDATION_MARGIN, _CASE_MARGIN = 1.2, 1.3, 1.3
_MOST_FOR_LAST = 0.3  # of a run's time that is set aside for its last validation
_MOST_FOR_ALL = 0.1  # of a run's time that its validations take together
_MOST_VALIDATIONS = 10
_FIRST_AT = 0.2  # of a run's time: the first of several validations
_REPORT_EVERY = 0.02  # of a run's time: epochs that are shorter are reported together
_LEAST_BETWEEN_REPORTS_S = 5.0
_MEASURED_STEPS = 3  # before the first case is measured: one to warm up, one to measure memory
_LATEST_MEASURE = 0.1  # of a run's time: it is measured by then, however few the steps
_MOST_FOR_FIRST_CASE = 1 / 3  # of the time left: one is scored in the end, and a third is for training
_TOO_LITTLE_S = 1.0  # left at its start, with which a run is not to blame
_GRACE_S = 15.0  # that a run may end later for the sake of its only validated case
_WHOLE = 0.95  # of its time, with which a run counts as whole


class Limits(Protocol):
    """The fields of `TrainingConfig` that bound a run."""

    @property
    def epochs(self) -> int: ...

    @property
    def max_time_s(self) -> float | None: ...

    @property
    def validate_at(self) -> tuple[float, ...]: ...


@dataclass(frozen=True)
class Pace:
    """What the parts of a run take in seconds; None before they were measured."""

    step_s: float | None = None
    case_s: float | None = None


@dataclass(frozen=True)
class Until:
    """How long a validation may last, in seconds of `time.monotonic`."""

    last: float
    """No case is begun that would end later."""
    first: float
    """When the first case is given up."""


@dataclass
class Clock:
    """The clock of one session of a run; seconds are those of `time.monotonic`.

    A run whose configuration names a time is *timed*: its learning rate and its validations follow the share
    of that time. Any run may have a deadline at which it is cut off.
    """

    limits: Limits
    elapsed_s: float
    """Seconds that earlier sessions took."""
    cases: int
    """Cases that this process validates, at most; 0 where there are none."""
    deadline: float | None = None
    """Unix time by which the run has to have ended."""
    pace: Pace = field(default_factory=Pace)
    done: float = 0.0
    """The share of the run's epochs that earlier sessions did."""
    now: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        """Start the clock."""
        start = self.now()
        self._began = start - self.elapsed_s
        ends = [] if self.limits.max_time_s is None else [self._began + self.limits.max_time_s]
        if self.deadline is not None:
            ends.append(start + self.deadline - time.time())
        self.ends_at = min(ends, default=None)
        self._steps = 0
        self._save_s = _CLOSING_S
        self._reported_at = self.share
        self._validated_at = max(self.share, self.done)

    @property
    def timed(self) -> bool:
        """Whether shares of the run are shares of its time."""
        return self.limits.max_time_s is not None

    @property
    def elapsed(self) -> float:
        """Seconds of the run so far, over all sessions."""
        return self.now() - self._began

    @property
    def remaining_s(self) -> float:
        """Seconds until the run has to have ended."""
        return float("inf") if self.ends_at is None else self.ends_at - self.now()

    @property
    def total_s(self) -> float:
        """Seconds that the run has in all."""
        return float("inf") if self.ends_at is None else max(self.ends_at - self._began, 1e-6)

    @property
    def share(self) -> float:
        """The share that is done of the time for steps, which is what the last validation leaves."""
        if self.ends_at is None or not self.timed:
            return 0.0
        return min(self.elapsed / max(self.total_s - self.closing_s, 1e-6), 1.0)

    @property
    def validation_s(self) -> float:
        """What a validation of all cases takes, as far as is known."""
        return self.cases * (self.pace.case_s or 0.0)

    @property
    def closing_s(self) -> float:
        """What is set aside for the end: a validation, of one case at least, and a checkpoint.

        A validation begins no case for which there is no room by its slowest one: so it has one more.
        """
        case_s = self.pace.case_s or 0.0
        planned = min(self.validation_s * _VALIDATION_MARGIN + case_s, _MOST_FOR_LAST * self.total_s)
        return (max(planned, case_s * _CASE_MARGIN) if self.cases else 0.0) + self._save_s

    def step(self, took_s: float) -> None:
        """Learn what a step took; the first ones of a session also warm up, and measure memory."""
        self._steps += 1
        known = self.pace.step_s if self._steps > _MEASURED_STEPS else None
        step_s = took_s if known is None else 0.8 * known + 0.2 * took_s
        self.pace = Pace(step_s, self.pace.case_s)

    def validated(self, case_s: float | None, done: float) -> None:
        """Learn what a case took, and that the run was validated.

        Args:
            done: the share of its epochs that are done, which may be more than that of its time.
        """
        self.measured(case_s)
        self._validated_at = max(self.share, done)

    def measured(self, case_s: float | None) -> None:
        """Learn what a case took."""
        if case_s is not None:
            self.pace = Pace(self.pace.step_s, case_s)

    def saved(self, took_s: float) -> None:
        """Learn what a checkpoint took, with its report."""
        self._save_s = max(took_s * _CASE_MARGIN, 0.5)

    def reported(self) -> None:
        """Note that the run was reported."""
        self._reported_at = self.elapsed / self.total_s

    def must_measure(self) -> bool:
        """Whether the first case is to be measured now, so that time for the last ones can be set aside."""
        if self.ends_at is None or self.pace.case_s is not None or not self.cases:
            return False
        return self._steps >= _MEASURED_STEPS or self.elapsed / self.total_s > _LATEST_MEASURE

    @property
    def settled(self) -> bool:
        """Whether what is to be measured at the start has been."""
        return self._steps >= _MEASURED_STEPS and not self.must_measure()

    def expected(self, step: int, *, all_steps: int) -> dict[str, float]:
        """What steps, epochs and validations take, and how many epochs fit, once it has settled.

        Args:
            step: the steps so far.
            all_steps: those of all epochs.
        """
        step_s, per_epoch = self.pace.step_s, all_steps / self.limits.epochs
        assert step_s is not None
        expected = {EXPECTED_STEP: step_s, EXPECTED_EPOCH: step_s * per_epoch}
        if self.pace.case_s is not None:
            expected[EXPECTED_VALIDATION] = self.validation_s
        if self.timed:
            validations = len(self.validation_shares(run_s=all_steps * step_s)) * self.validation_s
            left = max(self.remaining_s - validations, 0.0) / (step_s * per_epoch)
            expected[EXPECTED_EPOCHS] = step / per_epoch + left
        return expected

    @property
    def measure_until(self) -> Until:
        """How long the first case may take if another one is to fit in the end."""
        until = self.now() + max(_MOST_FOR_FIRST_CASE * (self.remaining_s - self._save_s), 0.0)
        return Until(last=until, first=until)

    @property
    def validate_until(self) -> Until | None:
        """How long a validation may last; None where it does not matter."""
        if self.ends_at is None:
            return None
        end = self.ends_at - self._save_s
        return Until(last=end, first=max(end, self.now()) + _GRACE_S)

    @property
    def cut_short(self) -> bool:
        """Whether the run has less time than its configuration says."""
        if self.limits.max_time_s is None:
            return self.ends_at is not None
        return self.total_s < _WHOLE * self.limits.max_time_s

    def must_end(self) -> bool:
        """Whether no further step fits."""
        return self.remaining_s < (self.pace.step_s or 0.0) * _STEP_MARGIN + self.closing_s

    def validation_shares(self, *, run_s: float | None = None) -> tuple[float, ...]:
        """The shares of a timed run at which it validates, the last of them 1.

        They are as many as 10 % of the time allows, ten at most: the first at 20 % of the time, the others
        evenly.

        Args:
            run_s: what the run is expected to take, where its epochs end before its time.
        """
        if self.limits.validate_at:
            return (*(each for each in self.limits.validate_at if each < 1), 1.0)
        total = min(self.total_s, run_s or self.total_s)
        affordable = _MOST_FOR_ALL * total / max(self.validation_s, 1e-9)
        count = max(min(floor(affordable), _MOST_VALIDATIONS), 1)
        if count == 1:
            return (1.0,)
        return tuple(_FIRST_AT + (1 - _FIRST_AT) * index / (count - 1) for index in range(count))

    def validation_due(self, share: float, *, run_s: float | None = None) -> bool:
        """Whether a timed run has passed a share at which it validates since it did so last."""
        if self.cases and self.pace.case_s is None:
            return False
        shares = self.validation_shares(run_s=run_s)[:-1]
        return any(self._validated_at < each <= share for each in shares)

    def report_due(self) -> bool:
        """Whether the end of an epoch is reported: those of a timed run are, a while after the last."""
        since = self.elapsed / self.total_s - self._reported_at
        return not self.timed or since * self.total_s >= max(
            _LEAST_BETWEEN_REPORTS_S, _REPORT_EVERY * self.total_s
        )

    def too_short(self, what: str, needed_s: float | None = None) -> TimeTooShort:
        """The error that not even one step and one validated case fit.

        Args:
            what: what does not fit.
            needed_s: the time that would do from now on.
        """
        limit_s = self.limits.max_time_s or self.total_s
        if self.total_s <= _TOO_LITTLE_S:
            what, needed_s = f"none left when training began ({what})", None
        gone_s = max(limit_s - self.remaining_s, 0.0)  # for the start of Ray, as an example
        enough = "a longer one" if needed_s is None else f"at least {format_duration(gone_s + needed_s)}"
        return TimeTooShort(
            f"time limit of {format_duration(limit_s)}",
            expected="time for one step and one validated case",
            found=what,
            remedy=f"give {enough}, a smaller network, or fewer points and cases a step",
        )


def format_pace(
    *, step_s: float, epoch_s: float, validation_s: float | None, fitting: float | None, limits: Limits
) -> str:
    """One line on a run's time: `a step 4 s, an epoch 80 s, validation 30 s; 12 of 50 epochs fit in 20 min`.

    Args:
        validation_s: None where it was not measured.
        fitting: epochs that fit in the time; None where it is not limited.
    """
    parts = [f"a step {format_duration(step_s)}", f"an epoch {format_duration(epoch_s)}"]
    if validation_s is not None:
        parts.append(f"validation {format_duration(validation_s)}")
    line = ", ".join(parts)
    if fitting is None or limits.max_time_s is None:
        whole = format_duration(limits.epochs * epoch_s)
        return f"{line}; {limits.epochs} epochs take {whole}" + (
            " and their validations" if validation_s is None else ""
        )
    number = f"{fitting:.1f}" if fitting < 10 else f"{fitting:.0f}"
    if fitting >= limits.epochs:
        return f"{line}; all {limits.epochs} epochs fit in {format_duration(limits.max_time_s)}"
    given = f" of {limits.epochs}" if limits.epochs < 20 * max(fitting, 1) else ""
    return f"{line}; {number}{given} epochs fit in {format_duration(limits.max_time_s)}"
