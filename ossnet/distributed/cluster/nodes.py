"""The nodes of the cluster, those that the autoscaler may add, and the memory of their GPUs."""

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ossnet.errors import UserError
from ossnet.memory.peak import GIB

logger = logging.getLogger(__name__)

_AUTOSCALED = "OSSNET_AUTOSCALED_NODES"  # where the head of an autoscaling cluster lists what may be added
_TIMEOUT_S = 60


@dataclass(frozen=True)
class AutoscaledNodes:
    """Nodes of one kind that the autoscaler may add."""

    count: int
    """Largest number of these nodes at a time, running ones included."""
    resources: dict[str, float]
    """Resources of each node, by Ray's names."""
    gpu_gib: float | None = None
    """Memory of each GPU, None where it is unknown."""


def nodes() -> list[dict[str, float]]:
    """The resources of every living node, and of those that the autoscaler may yet add.

    Raises:
        UserError: what the head says of its autoscaler cannot be read.
    """
    import ray

    living: list[dict[str, float]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    to_come = [kind.resources for kind in autoscaled_nodes() for _ in range(kind.count)]
    for node in living:
        same = (each for each in to_come if all(node.get(name) == each.get(name) for name in ("CPU", "GPU")))
        running = next(same, None)
        if running is not None:
            to_come.remove(running)
    return living + to_come


@dataclass(frozen=True)
class Hosts:
    """The nodes that something can run on."""

    living: frozenset[str]
    """Ray's ids of those that there are."""
    count: int
    """How many there can be, with those that the autoscaler may yet add."""


def find_hosts(can_run_on: Callable[[Mapping[str, float]], bool]) -> Hosts:
    """The nodes that something can run on.

    Args:
        can_run_on: whether it can run on a node with these resources.
    """
    import ray

    living = [node["NodeID"] for node in ray.nodes() if node["Alive"] and can_run_on(node["Resources"])]
    return Hosts(frozenset(living), sum(can_run_on(node) for node in nodes()))


def avoiding(ids: Iterable[str]) -> dict[str, str] | None:
    """Ray's label selector of all nodes but these; None where it is all."""
    listed = ",".join(ids)
    return {"ray.io/node-id": f"!in({listed})"} if listed else None


def autoscaled_nodes() -> list[AutoscaledNodes]:
    """The kinds of nodes that `OSSNET_AUTOSCALED_NODES` lists, as the head of an autoscaling cluster sets it.

    Raises:
        UserError: it is no list of such kinds.
    """
    text = os.environ.get(_AUTOSCALED, "[]")
    try:
        return [AutoscaledNodes(**kind) for kind in json.loads(text)]
    except (ValueError, TypeError) as error:
        raise UserError(
            _AUTOSCALED,
            expected='a JSON list such as [{"count": 8, "resources": {"CPU": 8, "GPU": 1}, "gpu_gib": 22}]',
            found=text,
            remedy="correct it in the cluster's file, which sets it on the head",
        ) from error


def min_gpu_memory_gib() -> float | None:
    """Memory of the smallest GPU of the cluster; None where it has none, or not all are known."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    measure = ray.remote(num_cpus=0)(_gpu_memory_here)
    calls = [
        measure.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("GPU")
    ]
    try:
        smallest = [min(each, default=None) for each in ray.get(calls, timeout=_TIMEOUT_S)]
    except ray.exceptions.RayError as error:
        reason = str(error).splitlines()[-1]
        logger.warning(f"each trial takes a whole GPU, as the memory of GPUs is unknown: {reason}")
        return None
    smallest += [kind.gpu_gib for kind in autoscaled_nodes() if kind.resources.get("GPU")]
    known = [each for each in smallest if each is not None]
    return min(known, default=None) if len(known) == len(smallest) else None


def _gpu_memory_here() -> list[float]:
    """Memory in GiB of each of this node's GPUs, whatever GPUs this process may use."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # fake GPUs, or those of another maker
        return []
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        return [pynvml.nvmlDeviceGetMemoryInfo(handle).total / GIB for handle in handles]
    finally:
        pynvml.nvmlShutdown()
