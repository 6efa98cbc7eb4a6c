"""The nodes of a simulation: what runs on them and how fast, and what is free."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from ossnet.distributed.benchmark.simulation.trials import MeasuredTrial
from ossnet.distributed.cluster.resources import Node, TrialPlacement, WorkerResources, plan_trials
from ossnet.memory.peak import GIB
from ossnet.planning.margin import MARGIN

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Cluster:
    """What a study is simulated on."""

    nodes: Sequence[Node]
    """CPUs and GPUs of each node, with one GPU at most."""
    gpu_gib: float | None = None
    """Memory of each GPU, where trials share them; None: each has a whole one."""
    busy: float = 1.0
    """The share of its time that a trial alone keeps its node's device busy. Trials together are slowed down
    once they need more of it than there is."""
    losses_per_hour: float = 0.0
    """How often a node is lost, at random."""
    replacement_s: float = 300.0
    """Seconds until another one takes the place of a lost one."""
    checkpoint_s: float = 60.0
    """Seconds of training between two checkpoints."""
    restart_s: float = 0.0
    """What a trial needs to start again after a loss."""

    @property
    def placement(self) -> TrialPlacement:
        """How `tune` places trials there."""
        return plan_trials(self.nodes, 1, gpu_gib=self.gpu_gib)


@dataclass(eq=False)
class Run:
    """A trial that waits for its place or has it."""

    number: int
    trial: MeasuredTrial
    resources: WorkerResources
    setup_s: float
    """Seconds until this try trains."""
    kept_s: float = 0.0
    """Seconds of training that its checkpoint has."""
    done_s: float = 0.0
    """Seconds of this try so far, at full speed."""
    validations: int = 0
    losses: int = 0

    @property
    def trained_s(self) -> float:
        """Seconds of training so far."""
        return self.kept_s + max(self.done_s - self.setup_s, 0.0)

    @property
    def left_s(self) -> float:
        """Seconds at full speed until its next validation."""
        return self.setup_s + self.trial.seconds_at(self.validations + 1) - self.kept_s - self.done_s

    def lose(self, checkpoint_s: float, restart_s: float) -> float:
        """Go back to the last checkpoint, of a validation or by the clock; returns the seconds lost."""
        trained = self.trained_s
        by_clock = trained // checkpoint_s * checkpoint_s
        self.kept_s = max(by_clock, self.trial.seconds_at(self.validations), self.kept_s)
        self.setup_s, self.done_s = restart_s, 0.0
        self.losses += 1
        return trained - self.kept_s


@dataclass(eq=False)
class SimulatedNode:
    """A node, its trials and the time until which they are known."""

    capacity: Node
    busy: float
    is_up: bool = True
    version: int = 0
    """Of its trials and their speed: an event of an older one is void."""
    occupied_s: float = 0.0
    """Seconds with a trial on it."""
    runs: list[Run] = field(default_factory=list)
    _now: float = 0.0

    def __post_init__(self) -> None:
        """Nothing runs on it yet."""
        self.free_gpus, self.free_cpus = self.capacity.get("GPU", 0.0), self.capacity["CPU"]

    def has_room(self, resources: WorkerResources) -> bool:
        """Whether a trial with these resources can start."""
        enough = resources.cpus <= self.free_cpus and resources.gpus <= self.free_gpus + _ROUNDING
        return enough and self.is_up

    def add(self, run: Run) -> None:
        """Have a trial run on it from now on."""
        self.runs.append(run)
        self.free_gpus -= run.resources.gpus
        self.free_cpus -= run.resources.cpus

    def remove(self, run: Run) -> None:
        """Free what a trial held."""
        self.runs.remove(run)
        self.free_gpus += run.resources.gpus
        self.free_cpus += run.resources.cpus

    @property
    def needed_gib(self) -> float:
        """Memory that its trials are predicted to need, each with its margin."""
        return sum(MARGIN.needed(round(run.trial.peak_gib * GIB)) for run in self.runs) / GIB

    @property
    def slowdown(self) -> float:
        """How many times as long its trials take now as alone."""
        return max(1.0, len(self.runs) * self.busy)

    def advance(self, now: float) -> None:
        """Let its trials run until now."""
        seconds, self._now = now - self._now, now
        if self.runs:
            self.occupied_s += seconds
        for run in self.runs:
            run.done_s += seconds / self.slowdown

    def next_at(self) -> float:
        """When the next validation of a trial is done, as things are."""
        return self._now + min(run.left_s for run in self.runs) * self.slowdown
