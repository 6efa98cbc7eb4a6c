"""What the cluster lacks for what is to run, said while it is waited for."""

import logging
import time
from typing import TYPE_CHECKING, Any

from ray.tune import Callback

from ossnet.distributed.cluster.resources import WorkerResources, capacity, describe_workers
from ossnet.output.duration import counted
from ossnet.output.waiting import Waiting

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

logger = logging.getLogger(__name__)

_POLL_S = 1.0


def wait_for_capacity(resources: WorkerResources, workers: int, *, at_most_s: float | None) -> None:
    """Wait until workers can all be placed at once; an autoscaler hears of them.

    Args:
        at_most_s: seconds to wait; None: without end.

    Raises:
        UserError: they cannot be placed within that time; says what there is.
    """
    from ray.util.placement_group import placement_group, remove_placement_group

    group = placement_group([resources.as_ray()] * workers)
    what = f"{describe_workers(workers)} of {resources}"
    waiting = Waiting(what, at_most_s=at_most_s)
    try:
        while not group.wait(timeout_seconds=_POLL_S):
            waiting.check(describe_cluster)
    finally:
        remove_placement_group(group)


def describe_cluster() -> str:
    """The nodes, CPUs and GPUs of the cluster, and how many of these are free."""
    import ray

    living = sum(1 for node in ray.nodes() if node["Alive"])
    there, free = ray.cluster_resources(), ray.available_resources()
    parts = [
        f"{counted(there.get(name, 0), name)} ({free.get(name, 0):g} free)"
        for name in ("CPU", "GPU")
        if name == "CPU" or there.get(name)
    ]
    return f"{counted(living, 'node')} with {' and '.join(parts)}"


def _any_group_pends() -> bool:
    from ray.util import placement_group_table

    return any(group["state"] in ("PENDING", "RESCHEDULING") for group in placement_group_table().values())


class NodeChanges:
    """Says which nodes are lost or come, from look to look."""

    def __init__(self) -> None:
        self._nodes: dict[str, str] | None = None

    def look(self) -> None:
        """Compare the nodes with those of the last look."""
        import ray

        before = self._nodes
        self._nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]}
        if before is None or before.keys() == self._nodes.keys():
            return
        for node in before.keys() - self._nodes.keys():
            logger.warning(f"warning: node {before[node]} was lost; the cluster has {describe_cluster()}")
        for node in self._nodes.keys() - before.keys():
            logger.info(f"node {self._nodes[node]} has joined; the cluster has {describe_cluster()}")


class RunCapacity:
    """Says which nodes a run loses or gets, and what it waits for while they have no room for its workers.

    Args:
        workers: how many it needs at least.
        at_most_s: seconds of waiting after which it ends; None: never.
        every_s: between two looks.
    """

    def __init__(
        self, resources: WorkerResources, workers: int, *, at_most_s: float | None, every_s: float = 2.0
    ) -> None:
        self._resources, self._workers = resources, workers
        self._at_most_s, self._every_s = at_most_s, every_s
        self._looked = 0.0
        self._waiting: Waiting | None = None
        self._nodes = NodeChanges()

    def check(self) -> None:
        """Look, if it is time.

        Raises:
            UserError: the run has waited for too long.
        """
        import ray

        if time.monotonic() - self._looked < self._every_s:
            return
        self._looked = time.monotonic()
        self._nodes.look()
        living = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if capacity(living, self._resources) >= self._workers:
            self._waiting = None
            return
        if self._waiting is None:
            what = f"{describe_workers(self._workers)} of {self._resources}"
            self._waiting = Waiting(what, at_most_s=self._at_most_s)
        self._waiting.check(describe_cluster)


class CapacityReport(Callback):
    """Says what the trials of a study wait for while none runs, and which nodes are lost or come.

    Args:
        at_most_s: seconds of waiting after which the study ends; None: never.
        every_s: between two looks.
    """

    def __init__(self, *, at_most_s: float | None = None, every_s: float = 2.0) -> None:
        self._at_most_s, self._every_s = at_most_s, every_s
        self._looked = 0.0
        self._waiting: Waiting | None = None
        self._nodes = NodeChanges()

    def on_step_end(self, iteration: int, trials: "list[Trial]", **info: Any) -> None:
        """Look for trials that wait, and for nodes.

        Raises:
            UserError: they have waited for too long.
        """
        if time.monotonic() - self._looked < self._every_s:
            return
        self._looked = time.monotonic()
        self._nodes.look()
        waiting = [trial for trial in trials if trial.status == trial.PENDING]
        runs = any(trial.status == trial.RUNNING for trial in trials)
        if not waiting or runs or not _any_group_pends():  # one that has its place is starting
            self._waiting = None
            return
        if self._waiting is None:
            needed = waiting[0].placement_group_factory.required_resources
            parts = (counted(count, name) for name, count in needed.items() if count)
            self._waiting = Waiting(f"a trial's {' and '.join(parts)}", at_most_s=self._at_most_s)
        self._waiting.check(describe_cluster)
