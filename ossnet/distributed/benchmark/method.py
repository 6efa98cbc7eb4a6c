"""What a search method is given, and what a study asks of it."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.tuning.search_space import Space
from ossnet.planning.allocation import Allocation
from ossnet.planning.configure.planner import Planner
from ossnet.planning.study_time import TrialTime, most_epochs


class CpuMeter:
    """CPU seconds of this process since a study began, those of the search counted apart."""

    def __init__(self) -> None:
        self._began = time.process_time()
        self.search_s = 0.0

    @property
    def spent_s(self) -> float:
        """CPU seconds of the study so far: of training, validation and search."""
        return time.process_time() - self._began

    @property
    def training_s(self) -> float:
        """Those of training and validation."""
        return self.spent_s - self.search_s

    @contextmanager
    def searching(self) -> Iterator[None]:
        """Count what the block takes for the search."""
        began = time.process_time()
        try:
            yield
        finally:
            self.search_s += time.process_time() - began


@dataclass(frozen=True)
class StudyTask:
    """The task that all methods have with one seed."""

    space: Space
    store: Store
    planner: Planner
    """Resolves what the space leaves open; without a memory budget, to which ours alone is fitted."""
    budget_gib: float
    allocation: Allocation
    """How long a trial is and where it is validated, and how long the study is; CPU seconds."""
    seed: int
    folder: Path
    """For the files of the study."""

    @property
    def time_s(self) -> float:
        """CPU seconds of the study."""
        return self.allocation.search_s

    @property
    def rungs(self) -> tuple[int, ...]:
        """Where trials are compared: thousandths of their time, the end included."""
        return (*(round(1000 * share) for share in self.allocation.rungs), 1000)

    def configuration(self, planner: Planner, changes: Mapping[str, Any]) -> Config:
        """The configuration of a suggestion, with a trial's time; what the space decides stays."""
        config = planner.resolve(changes=changes).config
        epochs = most_epochs(config, self.store, self.allocation.trial_s)
        planned = TrialTime.of(self.allocation).changes(epochs)
        return config.replace({path: value for path, value in planned.items() if path not in changes})


class Method(Protocol):
    """A search, one trial at a time."""

    @property
    def refused(self) -> int:
        """Suggestions that never started, as they were predicted to be too large."""

    def suggest(self) -> Config | None:
        """The configuration of the next trial; None where nothing is left to try."""

    def report(self, result: Mapping[str, float], checkpoint: Path | None) -> bool:
        """Take a report of the running trial, which may have been validated; whether it continues.

        Args:
            checkpoint: a folder to copy from, where there is a new one; it goes after the call.
        """

    def end(self, result: Mapping[str, Any]) -> None:
        """Take the trial's end.

        Args:
            result: the last report; with a measured peak above the budget where that ended it, or the reason
                why it failed.
        """
