"""What training workers and trials ask the cluster for, and whether it can ever be given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from ossnet.errors import UserError
from ossnet.memory.peak import GIB
from ossnet.planning.budget import MARGIN

Node = Mapping[str, float]
_LOADING_CPUS = 4  # of a worker on a GPU: its own loop, the loading thread and some for reading
_PARTS = 20  # of a GPU: few kinds of request, so that processes are reused


@dataclass(frozen=True)
class WorkerResources:
    """What one worker holds while it trains."""

    cpus: int
    gpus: float = 0
    """Whole ones, or a part of one."""

    def as_ray(self) -> dict[str, float]:
        """As Ray's resource request."""
        return {"CPU": float(self.cpus)} | ({"GPU": float(self.gpus)} if self.gpus else {})

    def fits(self, node: Node) -> int:
        """How many such workers a node has room for; a part never lies on two GPUs."""
        places = int(node.get("CPU", 0)) // self.cpus
        gpus = int(node.get("GPU", 0))
        if 0 < self.gpus < 1:
            return min(places, gpus * int(1 / self.gpus + 1e-9))
        return min(places, int(gpus // self.gpus)) if self.gpus else places

    def __str__(self) -> str:
        parts = [f"{self.cpus} CPU{'s' * (self.cpus > 1)}"]
        parts += [f"{self.gpus:g} GPU{'s' * (self.gpus > 1)}"] if self.gpus else []
        return " and ".join(parts)


@dataclass(frozen=True)
class GpuSharing:
    """How trials of one worker share GPUs, all planned for the smallest one of the cluster."""

    gpu_gib: float
    cpus: float
    """For each GPU, on the node that has the fewest."""

    @property
    def capacity_gib(self) -> float:
        """The largest peak of living tensors that a whole GPU suffices for."""
        return (self.gpu_gib * GIB - MARGIN.fixed) / MARGIN.factor / GIB

    def share(self, peak_gib: float) -> WorkerResources:
        """What a trial of this predicted peak asks for: a part of a GPU, and as large a part of its CPUs."""
        needed = MARGIN.needed(round(peak_gib * GIB)) / (self.gpu_gib * GIB)
        part = min(ceil(needed * _PARTS) / _PARTS, 1)
        return WorkerResources(min(_LOADING_CPUS, max(1, int(self.cpus * part))), part)


@dataclass(frozen=True)
class TrialPlacement:
    """Trials on a cluster: what each of a trial's workers holds, and how many trials run side by side."""

    workers: int
    share: WorkerResources
    """At most, where trials share GPUs."""
    concurrent: int
    packing: GpuSharing | None = None

    def asks(self, peak_gib: float | None) -> WorkerResources:
        """What a worker of a trial with this predicted peak asks for."""
        return self.share if self.packing is None or peak_gib is None else self.packing.share(peak_gib)

    def __str__(self) -> str:
        if self.packing is not None:
            return f"sharing GPUs of {self.packing.gpu_gib:.3g} GiB by what each is predicted to need"
        each = f"{self.workers} workers of {self.share}" if self.workers > 1 else f"{self.share}"
        return f"{self.concurrent} at a time on {each}"


def plan_run(nodes: Sequence[Node], workers: int) -> WorkerResources:
    """The share of each worker of a run that has the cluster to itself: a GPU each, or all the CPUs.

    Raises:
        UserError: the workers can never all be placed; says the arithmetic.
    """
    gpus = 1 if total(nodes, "GPU") else 0
    most = int(max((node.get("CPU", 0) for node in nodes), default=0))
    for cpus in range(min(most, _LOADING_CPUS) if gpus else most, 0, -1):
        share = WorkerResources(cpus, gpus)
        if room(nodes, share) >= workers:
            return share
    raise UserError(_refusal(nodes, workers, WorkerResources(1, gpus)))


def plan_trials(nodes: Sequence[Node], workers: int, *, gpu_gib: float | None = None) -> TrialPlacement:
    """Many small trials side by side: a GPU or a part of one, or one CPU, a worker.

    Args:
        gpu_gib: memory of the smallest GPU, where it is known: then trials of one worker share GPUs. (The
            workers of one trial cannot: NCCL refuses two ranks on one GPU.)

    Raises:
        UserError: not even one trial can ever be placed; says the arithmetic.
    """
    if total(nodes, "GPU"):
        shares = [WorkerResources(cpus, 1) for cpus in range(_LOADING_CPUS, 0, -1)]
        share = max(shares, key=lambda each: room(nodes, each))  # the first of equals has the most CPUs
    else:
        share = WorkerResources(1)
    places = room(nodes, share)
    if places < workers:
        raise UserError(_refusal(nodes, workers, share))
    if gpu_gib is None or workers > 1 or not share.gpus:
        return TrialPlacement(workers=workers, share=share, concurrent=places // workers)
    cpus = min(node["CPU"] / node["GPU"] for node in nodes if node.get("GPU", 0) and node.get("CPU", 0) >= 1)
    packing = GpuSharing(gpu_gib, cpus)
    if packing.capacity_gib <= 0:
        msg = f"a GPU of {gpu_gib:.3g} GiB has no room for any trial: {MARGIN} is more: use a larger one"
        raise UserError(msg)
    return TrialPlacement(
        1, packing.share(packing.capacity_gib), room(nodes, WorkerResources(1, 1 / _PARTS)), packing
    )


def room(nodes: Sequence[Node], share: WorkerResources) -> int:
    """How many workers fit at once; one never spans two nodes."""
    return sum(share.fits(node) for node in nodes)


def total(nodes: Sequence[Node], resource: str) -> float:
    """The sum of a resource over the nodes."""
    return sum(node.get(resource, 0) for node in nodes)


def _refusal(nodes: Sequence[Node], workers: int, share: WorkerResources) -> str:
    have = ", ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
    return (
        f"{workers} workers of {share} each can never be placed: the {len(nodes)} nodes have {have}, "
        f"room for {room(nodes, share)}: ask for fewer workers or a larger cluster"
    )
