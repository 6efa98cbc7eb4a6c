"""Resources that nested trainers leave behind when their trial is stopped from outside.

Ray keeps a placement group until its creator and the creator's job are gone. A stopped trial's training
controller dies, but its job is the whole study: unless they are removed its workers' CPUs and GPUs stay
taken and the next trial waits forever. Ray's own cleaner needs the dashboard and
fails next to a second cluster.
"""

import time
from typing import Any

from ray.tune import Callback

from ossnet.distributed._ray import placement_groups, remove_group


def remove_orphaned_groups() -> int:
    """Remove this job's placement groups whose creating actor is dead; returns how many there were."""
    import ray

    job = ray.get_runtime_context().get_job_id()
    orphaned = [
        group
        for group in placement_groups()
        if group.job == job and group.made_by_actor and group.creator_dead and not group.removed
    ]
    for group in orphaned:
        remove_group(group)
    return len(orphaned)


class PlacementGroupCleanup(Callback):
    """Removes orphaned placement groups while a study of nested trials runs."""

    def __init__(self, *, every_s: float = 1.0) -> None:
        self._every_s, self._last = every_s, time.monotonic()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Look for orphaned groups, at most once in `every_s` seconds."""
        if time.monotonic() - self._last > self._every_s:
            remove_orphaned_groups()
            self._last = time.monotonic()
