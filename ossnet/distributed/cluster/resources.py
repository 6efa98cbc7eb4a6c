"""Resource requests of training workers and trials, and checks that the cluster can satisfy them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from ossnet.errors import UserError
from ossnet.memory.peak import GIB
from ossnet.output.duration import counted
from ossnet.planning.margin import MARGIN

Node = Mapping[str, float]
Workers = int | tuple[int, int]
"""How many workers a run has: a number, or the fewest and the most, as Ray's `ScalingConfig` takes them."""
_LOADING_CPUS = 4  # of a worker on a GPU: its own loop, the loading thread and some for reading
_PARTS = 20  # of a GPU: few kinds of request, so that processes are reused


@dataclass(frozen=True)
class WorkerResources:
    """The resources of one worker while it trains."""

    cpus: int
    gpus: float = 0
    """A whole number of GPUs, or a fraction of one."""

    def as_ray(self) -> dict[str, float]:
        """The resources as Ray's request."""
        return {"CPU": float(self.cpus)} | ({"GPU": float(self.gpus)} if self.gpus else {})

    def fits(self, node: Node) -> int:
        """How many such workers a node has the capacity for; a fraction never lies on two GPUs."""
        slots = int(node.get("CPU", 0)) // self.cpus
        gpus = int(node.get("GPU", 0))
        if 0 < self.gpus < 1:
            return min(slots, gpus * int(1 / self.gpus + 1e-9))
        return min(slots, int(gpus // self.gpus)) if self.gpus else slots

    def __str__(self) -> str:
        parts = [counted(self.cpus, "CPU")]
        parts += [counted(self.gpus, "GPU")] if self.gpus else []
        return " and ".join(parts)


@dataclass(frozen=True)
class GpuSharing:
    """How trials of one worker share GPUs, all planned for the smallest one of the cluster."""

    gpu_gib: float
    cpus: float
    """CPUs for each GPU, on the node that has the fewest."""
    gpus: int
    """The GPUs of the cluster."""

    @property
    def capacity_gib(self) -> float:
        """The largest peak of allocated memory that a whole GPU suffices for."""
        return (self.gpu_gib * GIB - MARGIN.fixed) / MARGIN.factor / GIB

    def resources_for(self, peak_gib: float) -> WorkerResources:
        """The request of a trial of this predicted peak: the same fraction of a GPU and of its CPUs."""
        needed = MARGIN.needed(round(peak_gib * GIB)) / (self.gpu_gib * GIB)
        fraction = min(ceil(needed * _PARTS) / _PARTS, 1)
        return WorkerResources(min(_LOADING_CPUS, max(1, int(self.cpus * fraction))), fraction)


@dataclass(frozen=True)
class TrialPlacement:
    """Trials on a cluster: what each of a trial's workers holds, and how many trials run side by side."""

    workers: int
    resources: WorkerResources
    """The resources of each worker; where trials share GPUs, the largest possible ones."""
    concurrent: int
    sharing: GpuSharing | None = None
    """The sharing of GPUs; None where each worker has whole GPUs, or none."""

    def resources_for(self, peak_gib: float | None) -> WorkerResources:
        """The request of a worker of a trial with this predicted peak."""
        if self.sharing is None or peak_gib is None:
            return self.resources
        return self.sharing.resources_for(peak_gib)

    def can_run_on(self, node: Node) -> bool:
        """Whether a node has room for a worker of some trial."""
        smallest = self.resources if self.sharing is None else WorkerResources(1, 1 / _PARTS)
        return smallest.fits(node) > 0

    def is_full(self, peaks_gib: Iterable[float | None]) -> bool:
        """Whether trials with these predicted peaks leave nothing for another one to start on."""
        held = [self.resources_for(peak).gpus for peak in peaks_gib]
        if len(held) >= self.concurrent:
            return True
        return self.sharing is not None and sum(held) > self.sharing.gpus - 1 / _PARTS / 2

    def __str__(self) -> str:
        if self.sharing is not None:
            return f"sharing GPUs of {self.sharing.gpu_gib:.3g} GiB by what each is predicted to need"
        each = f"{self.workers} workers of {self.resources}" if self.workers > 1 else f"{self.resources}"
        return f"{self.concurrent} at a time" + (", each" if self.concurrent > 1 else "") + f" on {each}"


def fewest(workers: Workers) -> int:
    """The workers that a run has at least."""
    return workers if isinstance(workers, int) else workers[0]


def most(workers: Workers) -> int:
    """The workers that a run has at most."""
    return workers if isinstance(workers, int) else workers[1]


def describe_workers(workers: Workers) -> str:
    """`1 worker`, `2 workers` or `2 to 8 workers`."""
    if isinstance(workers, tuple):
        return f"{workers[0]} to {workers[1]} workers"
    return counted(workers, "worker")


def plan_run(nodes: Sequence[Node], workers: Workers) -> WorkerResources:
    """The resources of each worker of a run that has the cluster to itself: a GPU each, or all the CPUs.

    Where their number may change, there are to be as many as possible now.

    Raises:
        UserError: not even the fewest workers can ever be placed; says the arithmetic.
    """
    gpus = 1 if total(nodes, "GPU") else 0
    largest = int(max((node.get("CPU", 0) for node in nodes), default=0))
    for count in range(most(workers), fewest(workers) - 1, -1):
        for cpus in range(min(largest, _LOADING_CPUS) if gpus else largest, 0, -1):
            resources = WorkerResources(cpus, gpus)
            if capacity(nodes, resources) >= count:
                return resources
    raise _cannot_place(nodes, fewest(workers), WorkerResources(1, gpus))


def plan_trials(nodes: Sequence[Node], workers: int, *, gpu_gib: float | None = None) -> TrialPlacement:
    """Place many small trials side by side: a GPU or a fraction of one, or one CPU, a worker.

    Args:
        gpu_gib: memory of the smallest GPU, where it is known: then trials of one worker share GPUs. (The
            workers of one trial cannot: NCCL rejects two ranks on one GPU.)

    Raises:
        UserError: not even one trial can ever be placed; says the arithmetic.
    """
    if total(nodes, "GPU"):
        choices = [WorkerResources(cpus, 1) for cpus in range(_LOADING_CPUS, 0, -1)]
        resources = max(
            choices, key=lambda each: capacity(nodes, each)
        )  # the first of equals has the most CPUs
    else:
        resources = WorkerResources(1)
    slots = capacity(nodes, resources)
    if slots < workers:
        raise _cannot_place(nodes, workers, resources)
    if gpu_gib is None or workers > 1 or not resources.gpus:
        return TrialPlacement(workers=workers, resources=resources, concurrent=slots // workers)
    cpus = min(node["CPU"] / node["GPU"] for node in nodes if node.get("GPU", 0) and node.get("CPU", 0) >= 1)
    sharing = GpuSharing(gpu_gib, cpus, int(total(nodes, "GPU")))
    if sharing.capacity_gib <= 0:
        raise UserError(
            f"a GPU of {gpu_gib:.3g} GiB",
            expected="room for a trial",
            found=f"less than the margin alone ({MARGIN})",
            remedy="use a larger GPU",
        )
    return TrialPlacement(
        workers=1,
        resources=sharing.resources_for(sharing.capacity_gib),
        concurrent=capacity(nodes, WorkerResources(1, 1 / _PARTS)),
        sharing=sharing,
    )


def capacity(nodes: Sequence[Node], resources: WorkerResources) -> int:
    """How many workers with these resources fit at once; one never spans two nodes."""
    return sum(resources.fits(node) for node in nodes)


def total(nodes: Sequence[Node], resource: str) -> float:
    """The sum of a resource over the nodes."""
    return sum(node.get(resource, 0) for node in nodes)


def _cannot_place(nodes: Sequence[Node], workers: int, resources: WorkerResources) -> UserError:
    have = ", ".join(
        f"{counted(node.get('CPU', 0), 'CPU')} and {counted(node.get('GPU', 0), 'GPU')}" for node in nodes
    )
    return UserError(
        "workers",
        expected=f"room for {counted(workers, 'worker')} of {resources}{' each' * (workers > 1)}",
        found=f"room for {capacity(nodes, resources)} on {counted(len(nodes), 'node')} with {have}",
        remedy="request fewer workers or a larger cluster",
    )
