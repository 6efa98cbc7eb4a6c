"""Trials that Ray kills because their machine, not their GPU, runs out of memory.

Ray Tune takes such a kill for a fault of its own and ends the whole study (ray 2.60, `RayActorManager`).
"""

import re
from typing import TYPE_CHECKING, Any

from ray.exceptions import OutOfMemoryError, RayActorError

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController

HOST_MEMORY = "out of host memory"
_USED = re.compile(r"was (\S+) used / (\S+) limit")


class HostOOMMonitor:
    """Which trials ended so at one of their tries."""

    def __init__(self) -> None:
        self._trials: set[str] = set()
        self._watched: TuneController | None = None

    def __contains__(self, trial_id: str) -> bool:
        return trial_id in self._trials

    def watch(self, controller: "TuneController") -> None:
        """Have Ray Tune treat a kill for memory as the loss of a process, and note it."""
        if controller is self._watched:
            return
        self._watched = controller
        manager = controller._actor_manager
        handle = manager._actor_task_failed

        def failed(tracked_actor_task: Any, exception: Exception) -> None:
            trial = controller._actor_to_trial.get(tracked_actor_task._tracked_actor)
            if isinstance(exception, OutOfMemoryError):
                if trial is not None:
                    self._trials.add(trial.trial_id)
                    trial._default_result_or_future = None  # or Ray asks the dead process for it
                exception = RayActorError(error_msg=told(exception))
            handle(tracked_actor_task, exception)

        manager._actor_task_failed = failed


def told(error: OutOfMemoryError) -> str:
    """Ray's page about it in a line, with what to do."""
    found = _USED.search(str(error))
    where = f" ({found[1]} of {found[2]} in use)" if found else ""
    return (
        f"killed, as its machine ran out of memory{where}: "
        "have fewer trials run side by side, or give the node more memory"
    )
