"""Trials that Ray kills because their machine, not their GPU, runs out of memory.

Ray Tune takes such a kill for a fault of its own and ends the whole study (ray 2.60, `RayActorManager`).
"""

import re
from typing import TYPE_CHECKING

from ray.exceptions import OutOfMemoryError, RayActorError

from ossnet.distributed._ray import forget_pending_result, intercept_task_failures

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial

_USED = re.compile(r"was (\S+) used / (\S+) limit")


class HostOOMMonitor:
    """The ids of trials that Ray killed for host memory at one of their tries."""

    def __init__(self) -> None:
        self._trials: set[str] = set()
        self._watched: TuneController | None = None

    def __contains__(self, trial_id: str) -> bool:
        return trial_id in self._trials

    def watch(self, controller: "TuneController") -> None:
        """Have Ray Tune treat a kill for memory as the loss of a process, and remember the trial."""
        if controller is not self._watched:
            self._watched = controller
            intercept_task_failures(controller, self._as_lost_process)

    def _as_lost_process(self, trial: "Trial | None", error: Exception) -> Exception:
        if not isinstance(error, OutOfMemoryError):
            return error
        if trial is not None:
            self._trials.add(trial.trial_id)
            forget_pending_result(trial)
        return RayActorError(error_msg=summarize_kill(error))


def summarize_kill(error: OutOfMemoryError) -> str:
    """Ray's page about a kill for memory as one line that says what to do."""
    found = _USED.search(str(error))
    where = f" ({found[1]} of {found[2]} in use)" if found else ""
    return (
        f"killed, as its machine ran out of memory{where}: "
        "have fewer trials run side by side, or give the node more memory"
    )
