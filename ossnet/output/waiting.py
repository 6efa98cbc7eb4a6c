"""What a job waits for, said in lines: how long, what is asked for, and what there is."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from ossnet.errors import UserError

logger = logging.getLogger(__name__)

_FIRST_S = 15.0
_LONGEST_S = 600.0  # between two lines


@dataclass(frozen=True)
class Patience:
    """How long a job waits, in seconds."""

    grace_s: float = 30.0
    """For what trains to save a checkpoint when the job is interrupted."""
    wait_at_most_s: float | None = None
    """For another job to leave the output, or for nodes; None: not at all, and without end."""

    @property
    def for_output_s(self) -> float:
        """For another job to leave the output."""
        return self.wait_at_most_s or 0.0


PATIENCE = Patience()
"""That of a job of which nobody says otherwise."""


class Waiting:
    """One wait: a line after 15 s, and again whenever it has lasted twice as long, or ten minutes longer.

    Args:
        what: what is waited for, as in "2 workers of 4 CPUs each".
        at_most_s: seconds after which it is given up; None: never.
        first_s: seconds until the first line.
    """

    def __init__(
        self,
        what: str,
        *,
        at_most_s: float | None = None,
        first_s: float = _FIRST_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._at_most_s, self._now = what, at_most_s, now
        self._began = now()
        self._next_s = first_s

    def check(self, there: Callable[[], str]) -> None:
        """Say a line where one is due; called again and again while the wait lasts.

        Args:
            there: gives what there is instead.

        Raises:
            UserError: it has lasted for `at_most_s`.
        """
        waited_s = self._now() - self._began
        if self._at_most_s is not None and waited_s >= self._at_most_s:
            raise UserError(
                f"waited {waited_s:.0f} s, as --wait-at-most says",
                expected=self._what,
                found=there(),
                remedy="give a longer --wait-at-most, or free or add what is asked for",
            )
        if waited_s >= self._next_s:
            self._next_s = min(2 * max(waited_s, _FIRST_S), waited_s + _LONGEST_S)
            logger.info(f"waiting for {self._what}, for {waited_s:.0f} s now; found {there()}")
