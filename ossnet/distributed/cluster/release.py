"""What a run or a study holds on the cluster when it is interrupted or fails."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ossnet.distributed._ray import (
    PlacementGroupRecord,
    kill_actor,
    placement_groups,
    remove_group,
    train_controllers,
)

_QUIET_S = 1.0  # without a new group, after which there will be none
_POLL_S = 0.1


@contextmanager
def released_on_error() -> Iterator[None]:
    """Where the block is interrupted or fails, end the runs and trials that it started on the cluster.

    A driver that goes on, as a notebook does, would never get their CPUs and GPUs back: Ray has them run as
    long as its job.
    """
    import ray

    job = ray.get_runtime_context().get_job_id()
    controllers, groups = train_controllers(job), {group.id for group in _groups(job)}
    try:
        yield
    except BaseException:
        for controller in train_controllers(job) - controllers:
            kill_actor(controller)
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < _QUIET_S:
            for group in _groups(job):
                if group.id not in groups:
                    remove_group(group)  # which ends what runs in it
                    quiet_since = time.monotonic()
            time.sleep(_POLL_S)
        raise


def _groups(job: str) -> list[PlacementGroupRecord]:
    return [group for group in placement_groups() if group.job == job and not group.removed]
