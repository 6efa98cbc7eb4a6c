"""What training workers and trials ask the cluster for, and whether it can ever be given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ossnet.errors import UserError

Node = Mapping[str, float]
_LOADING_CPUS = 4  # of a worker on a GPU: its own loop, the loading thread and some for reading


@dataclass(frozen=True)
class Share:
    """What one worker holds while it trains."""

    cpus: int
    gpus: int = 0

    def as_ray(self) -> dict[str, float]:
        """As Ray's resource request."""
        return {"CPU": float(self.cpus)} | ({"GPU": float(self.gpus)} if self.gpus else {})

    def fits(self, node: Node) -> int:
        """How many such workers a node has room for."""
        places = int(node.get("CPU", 0)) // self.cpus
        return min(places, int(node.get("GPU", 0)) // self.gpus) if self.gpus else places

    def __str__(self) -> str:
        parts = [f"{self.cpus} CPU{'s' * (self.cpus > 1)}"]
        parts += [f"{self.gpus} GPU{'s' * (self.gpus > 1)}"] if self.gpus else []
        return " and ".join(parts)


@dataclass(frozen=True)
class Plan:
    """Trials on a cluster: what each of a trial's workers holds, and how many trials run side by side."""

    workers: int
    share: Share
    concurrent: int


def plan_run(nodes: Sequence[Node], workers: int) -> Share:
    """The share of each worker of a run that has the cluster to itself: a GPU each, or all the CPUs.

    Raises:
        UserError: the workers can never all be placed; says the arithmetic.
    """
    gpus = 1 if total(nodes, "GPU") else 0
    most = int(max((node.get("CPU", 0) for node in nodes), default=0))
    for cpus in range(min(most, _LOADING_CPUS) if gpus else most, 0, -1):
        share = Share(cpus, gpus)
        if room(nodes, share) >= workers:
            return share
    raise UserError(_refusal(nodes, workers, Share(1, gpus)))


def plan_trials(nodes: Sequence[Node], workers: int) -> Plan:
    """Many small trials side by side: a GPU or one CPU a worker.

    Raises:
        UserError: not even one trial can ever be placed; says the arithmetic.
    """
    if total(nodes, "GPU"):
        shares = [Share(cpus, 1) for cpus in range(_LOADING_CPUS, 0, -1)]
        share = max(shares, key=lambda each: room(nodes, each))  # the first of equals has the most CPUs
    else:
        share = Share(1)
    places = room(nodes, share)
    if places < workers:
        raise UserError(_refusal(nodes, workers, share))
    return Plan(workers=workers, share=share, concurrent=places // workers)


def room(nodes: Sequence[Node], share: Share) -> int:
    """How many workers fit at once; one never spans two nodes."""
    return sum(share.fits(node) for node in nodes)


def total(nodes: Sequence[Node], resource: str) -> float:
    """The sum of a resource over the nodes."""
    return sum(node.get(resource, 0) for node in nodes)


def _refusal(nodes: Sequence[Node], workers: int, share: Share) -> str:
    have = ", ".join(f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in nodes)
    return (
        f"{workers} workers of {share} each can never be placed: the {len(nodes)} nodes have {have}, "
        f"room for {room(nodes, share)}: ask for fewer workers or a larger cluster"
    )
