"""What trains saves a checkpoint before an interrupted job ends it."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ossnet.output.duration import counted, format_duration
from ossnet.training.checkpoint import fault_of

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from ossnet.distributed.tracking.client import Tracker

logger = logging.getLogger(__name__)

Folders = Callable[[], Iterable[Path]]
"""Gives the folders of a run's checkpoints."""
Checkpoints = Mapping[str, Folders]
"""Those of each run, by its id."""
_ANSWER_S = 5.0  # of the tracker
_POLL_S = 0.2
_BEFORE_S = 1.0  # the interruption, in which a checkpoint is as good as new


@contextmanager
def saved_on_interrupt(
    tracker: "ActorHandle[Tracker]", grace_s: float, checkpoints: Checkpoints
) -> Iterator[None]:
    """Where Ctrl-C or SIGTERM ends the block, have what trains save a checkpoint first.

    Args:
        grace_s: seconds that it may take; another interruption ends it at once.
        checkpoints: of the runs that are to be saved.
    """
    try:
        yield
    except KeyboardInterrupt:
        save = LastSave(tracker, grace_s, checkpoints)
        while not save.is_over():
            time.sleep(_POLL_S)
        raise


class LastSave:
    """Asks what trains for a checkpoint, and sees whether all have saved it.

    Args:
        grace_s: seconds that it may take.
        checkpoints: of the runs that are to be saved.
    """

    def __init__(self, tracker: "ActorHandle[Tracker]", grace_s: float, checkpoints: Checkpoints) -> None:
        self._grace_s, self._began = grace_s, time.time()
        self._waiting = self._ask(tracker, checkpoints)
        self._count = count = len(self._waiting)
        if count:
            logger.info(
                f"interrupted: {counted(count, 'training')} may save a checkpoint first, "
                f"{format_duration(grace_s)} at most"
            )

    def is_over(self) -> bool:
        """Whether all have saved, or the time is over; a line says so then."""
        since = self._began - _BEFORE_S
        self._waiting = {run: each for run, each in self._waiting.items() if not _is_new(each(), since)}
        if not self._waiting:
            return True
        if time.time() < self._began + self._grace_s:
            return False
        logger.warning(
            f"warning: {len(self._waiting)} of {self._count} saved none in {format_duration(self._grace_s)}: "
            "such a training goes on from the checkpoint before"
        )
        return True

    def _ask(self, tracker: "ActorHandle[Tracker]", checkpoints: Checkpoints) -> dict[str, Folders]:
        import ray

        try:
            training = ray.get(tracker.request_save.remote(), timeout=min(_ANSWER_S, self._grace_s))
        except ray.exceptions.RayError as error:
            logger.warning(f"warning: no checkpoint was asked for: {str(error).splitlines()[0]}")
            return {}
        return {run: checkpoints[run] for run in training if run in checkpoints}


def _is_new(folders: Iterable[Path], since: float) -> bool:
    for folder in folders:
        try:
            new = folder.stat().st_mtime >= since
        except FileNotFoundError:  # an older one is being replaced
            continue
        if new and fault_of(folder) is None:
            return True
    return False
