"""Private interfaces of Ray 2.60 that this package cannot avoid; a contract test watches each."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.tune.execution.tune_controller import TuneController
    from ray.tune.experiment import Trial


def last_result(trial: "Trial") -> Mapping[str, Any]:
    """The last result that a trial reported, if any: Ray's own property asks its process, which may be
    dead."""
    result: Mapping[str, Any] = trial.run_metadata.last_result
    return result


def forget_pending_result(trial: "Trial") -> None:
    """Keep Ray Tune from asking the process of a trial, which is dead, for its last result."""
    trial._default_result_or_future = None


def intercept_task_failures(
    controller: "TuneController", replace: Callable[["Trial | None", Exception], Exception]
) -> None:
    """Have Ray Tune handle what `replace` makes of each failure of a trial's task."""
    manager = controller._actor_manager
    handle = manager._actor_task_failed

    def failed(tracked_actor_task: Any, exception: Exception) -> None:
        trial = controller._actor_to_trial.get(tracked_actor_task._tracked_actor)
        handle(tracked_actor_task, replace(trial, exception))

    manager._actor_task_failed = failed


@contextmanager
def raised_as_they_were() -> Iterator[None]:
    """Raise errors of callbacks and searchers as they were: Ray Tune raises another one with their traceback
    as its text, of which nobody can tell what went wrong."""
    from ray.tune import TuneError

    try:
        yield
    except TuneError as error:
        raised = error.__context__ if isinstance(error.__context__, Exception) else error
        raise raised from raised.__cause__  # which says what went wrong below it


def forward_no_credentials() -> None:
    """Keep Ray Tune from sending the driver's keys for AWS along with trials: each node has its own.

    They would be part of a runtime environment, which Ray writes to a log that others can read.
    """
    from ray.tune.execution import class_cache

    names = class_cache.ENV_VARS_TO_PROPAGATE
    class_cache.ENV_VARS_TO_PROPAGATE = {name for name in names if not name.startswith("AWS_")}


@dataclass(frozen=True)
class PlacementGroupRecord:
    """A placement group as the cluster's control store has it."""

    id: bytes
    job: str
    """Id of the job that made it, in hexadecimal digits."""
    made_by_actor: bool
    """Ray Tune's own groups are made by the driver."""
    creator_dead: bool
    removed: bool


@contextmanager
def loopback_only() -> Iterator[None]:
    """Have a local cluster that is started in the block listen on the loopback interface only.

    It is what Ray does on desktop systems; a loopback address that it is given is resolved to one that others
    reach.
    """
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def open_no_replica_port() -> None:
    """Have the replica of Ray Serve in this process, which is not ready yet, open no port for other replicas.

    Each would, on every interface, and unpickle what comes there; the proxy reaches it without.
    """
    from ray.serve._private import replica

    replica.add_port_to_grpc_server = lambda _server, _address: 0


def ended_processes() -> dict[str, int]:
    """The exit status of each process that a local cluster cannot be without and that has ended, by name."""
    from ray._private.worker import _global_node

    processes = {} if _global_node is None else _global_node.all_processes
    found = {
        name: each.process.poll() for name in ("raylet", "gcs_server") for each in processes.get(name, [])
    }
    return {name: status for name, status in found.items() if status is not None}


def draining_nodes() -> dict[str, float]:
    """The ids of nodes that are to be lost at a time, as spot ones are, and that Unix time.

    Nodes that are given back because nothing runs there have none, and are left out.
    """
    from ray._private.state import state

    return {node: at_ms / 1000 for node, at_ms in state.get_draining_nodes().items() if at_ms}


def placement_groups() -> Iterator[PlacementGroupRecord]:
    """All placement groups of the cluster with their creators, which Ray's public table does not name."""
    from ray import ActorID
    from ray._private.state import state
    from ray.core.generated.gcs_pb2 import PlacementGroupTableData

    for entry in state._connect_and_get_accessor().get_placement_group_table():
        group = PlacementGroupTableData.FromString(entry)
        creator = group.creator_actor_id
        yield PlacementGroupRecord(
            id=group.placement_group_id,
            job=group.creator_job_id.hex(),
            made_by_actor=bool(creator) and not ActorID(creator).is_nil(),
            creator_dead=group.creator_actor_dead,
            removed=group.state == PlacementGroupTableData.REMOVED,
        )


def remove_group(group: PlacementGroupRecord) -> None:
    """Remove a placement group that another process made."""
    from ray._raylet import PlacementGroupID
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    remove_placement_group(PlacementGroup(PlacementGroupID(group.id)))


def train_controllers(job: str) -> set[str]:
    """Ids of the living actors that run a job's trainings with Ray Train, which keeps their handles."""
    from ray import JobID
    from ray._private.state import state

    found: Mapping[str, Mapping[str, Any]] = state.actor_table(None, JobID.from_hex(job), "ALIVE")
    return {actor for actor, entry in found.items() if entry["ActorClassName"] == "TrainController"}


def kill_actor(actor: str) -> None:
    """End an actor by its id, as `ray.kill` does by its handle."""
    from ray import ActorID
    from ray._private.worker import global_worker

    global_worker.core_worker.kill_actor(ActorID.from_hex(actor), no_restart=True)
