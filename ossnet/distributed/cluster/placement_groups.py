"""Resources that nested trainers leave behind when their trial is stopped from outside.

Ray keeps a placement group until its creator and the creator's job are gone. A stopped trial's training
controller dies, but its job is the whole study: without a sweep its workers' CPUs and GPUs stay taken and the
next trial waits for ever. Ray's own cleaner needs the dashboard and fails beside a second cluster.
"""

import time
from typing import Any

from ray.tune import Callback


def remove_orphaned_groups() -> int:
    """Remove this job's placement groups whose creating actor is dead; how many there were."""
    import ray
    from ray._private.state import state
    from ray._raylet import PlacementGroupID
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    job = ray.get_runtime_context().get_job_id()
    freed = 0
    for entry in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(entry)
        made_by_actor = group.creator_job_id.hex() == job and not _is_nil(group.creator_actor_id)
        if made_by_actor and group.creator_actor_dead and group.state != PlacementGroupTableData.REMOVED:
            remove_placement_group(PlacementGroup(PlacementGroupID(group.placement_group_id)))
            freed += 1
    return freed


def _is_nil(actor: bytes) -> bool:
    """Whether an id names no actor: Ray Tune's own groups are made by the driver."""
    import ray

    return not actor or ray.ActorID(actor).is_nil()


class PlacementGroupCleanup(Callback):
    """Frees orphans while a study of nested trials goes on."""

    def __init__(self, *, every_s: float = 1.0) -> None:
        self._every_s, self._last = every_s, time.monotonic()

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Ray Tune's loop turned once."""
        if time.monotonic() - self._last > self._every_s:
            remove_orphaned_groups()
            self._last = time.monotonic()
