"""The events of a simulated study. A heap of them is all that is needed: `simpy` would add a dependency and
processes that interrupt each other whenever a trial changes the speed of its neighbors."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Literal

from ossnet.distributed.benchmark.simulation.cluster import Cluster, Run, SimulatedNode
from ossnet.distributed.benchmark.simulation.trials import MeasuredTrial
from ossnet.distributed.tuning.config import EarlyStoppingConfig
from ossnet.distributed.tuning.early_stopping.rules import StoppingRule
from ossnet.distributed.tuning.study import MOST_LOSSES

_HOUR_S = 3600
_ROUNDING_S = 1e-6


@dataclass
class SimulatedStudy:
    """What became of a study."""

    wall_s: float = 0.0
    """From the first start to the last end."""
    occupied_s: float = 0.0
    """Seconds with a trial on a node, over all nodes: what a cluster costs whose idle nodes go."""
    trained_s: float = 0.0
    """Seconds of training and validation at full speed, over all trials, each counted once."""
    repeated_s: float = 0.0
    """Seconds of training that were lost with a node."""
    losses: int = 0
    """How often a trial was lost with its node."""
    most_at_once: int = 0
    """Trials on a node, at most."""
    most_gib: float = 0.0
    """Memory that trials on a node are predicted to need with their margins, at most."""
    stopped: list[int] = field(default_factory=list)
    """Numbers of the trials that were stopped early."""
    failed: list[int] = field(default_factory=list)
    """Numbers of the trials that were lost too often."""


def simulate(
    trials: Sequence[MeasuredTrial], cluster: Cluster, early_stopping: EarlyStoppingConfig, *, seed: int = 0
) -> SimulatedStudy:
    """Run a study of these trials in their order.

    As in `tune`, `TrialPlacement` says what each requests and when another one is suggested, and
    `StoppingRule` which go on. As Ray does, a trial starts on the node with the most room, one that waits as
    soon as it fits, and one that shared a GPU continues with a whole one after a loss.

    Args:
        seed: of the losses.

    Raises:
        UserError: no trial can ever be placed.
    """
    return _Simulation(trials, cluster, early_stopping, seed).run()


_Event = tuple[float, int, Literal["validation", "loss", "replacement"], int, int]
"""Its time, a number that orders those of one time, what it is, the node and the node's version."""


class _Simulation:
    def __init__(
        self,
        trials: Sequence[MeasuredTrial],
        cluster: Cluster,
        early_stopping: EarlyStoppingConfig,
        seed: int,
    ) -> None:
        self._waiting_trials = list(enumerate(trials))[::-1]
        self._cluster, self._placement, self._random = cluster, cluster.placement, Random(seed)
        self._nodes = [SimulatedNode(node, cluster.busy) for node in cluster.nodes]
        self._rule = StoppingRule(
            early_stopping,
            first_rung=early_stopping.grace_period or min(each.curve[0][0] for each in trials),
            end=max(each.curve[-1][0] for each in trials),
            history={},
        )
        self._live = dict[int, Run]()
        self._pending = list[Run]()
        self._events, self._order = list[_Event](), count()
        self._now, self._study = 0.0, SimulatedStudy()

    def run(self) -> SimulatedStudy:
        """All events until no trial is left."""
        for index in range(len(self._nodes)):
            self._schedule_loss(index)
        self._suggest()
        while self._live:
            self._now, _, what, index, version = heappop(self._events)
            node = self._nodes[index]
            if what == "validation" and version == node.version:
                self._validate(index)
            elif what == "loss":
                self._lose(index)
            elif what == "replacement":
                node.is_up = True
                self._schedule_loss(index)
                self._start_pending(index)
        self._study.wall_s = self._now
        self._study.occupied_s = sum(node.occupied_s for node in self._nodes)
        return self._study

    def _schedule(
        self, at: float, what: Literal["validation", "loss", "replacement"], index: int, version: int = 0
    ) -> None:
        heappush(self._events, (at, next(self._order), what, index, version))

    def _schedule_loss(self, index: int) -> None:
        if self._cluster.losses_per_hour:
            after_s = self._random.expovariate(self._cluster.losses_per_hour) * _HOUR_S
            self._schedule(self._now + after_s, "loss", index)

    def _schedule_validation(self, index: int) -> None:
        """Have the node's next event at the right time, after its trials changed."""
        node = self._nodes[index]
        node.version += 1
        if node.runs:
            self._schedule(node.next_at(), "validation", index, node.version)

    def _suggest(self) -> None:
        """Suggest trials as long as the study does, and start those that fit."""
        while self._waiting_trials and not self._placement.is_full(
            run.trial.peak_gib for run in self._live.values()
        ):
            number, trial = self._waiting_trials.pop()
            run = Run(number, trial, self._placement.resources_for(trial.peak_gib), trial.start_s)
            self._live[number] = run
            self._start_or_wait(run)

    def _start_or_wait(self, run: Run) -> None:
        fitting = (index for index, node in enumerate(self._nodes) if node.has_room(run.resources))
        index = max(fitting, key=self._room, default=None)
        if index is None:
            self._pending.append(run)
        else:
            self._start(run, index)

    def _room(self, index: int) -> tuple[float, float]:
        return self._nodes[index].free_gpus, self._nodes[index].free_cpus

    def _start(self, run: Run, index: int) -> None:
        node = self._nodes[index]
        node.advance(self._now)
        node.add(run)
        self._schedule_validation(index)
        self._study.most_at_once = max(self._study.most_at_once, len(node.runs))
        self._study.most_gib = max(self._study.most_gib, node.needed_gib)

    def _start_pending(self, index: int) -> None:
        """Start what waits and fits on a node that has more room now, then suggest others."""
        for run in list(self._pending):
            if self._nodes[index].has_room(run.resources):
                self._pending.remove(run)
                self._start(run, index)
        self._suggest()

    def _validate(self, index: int) -> None:
        """Validate the trials of a node that are due; those that end make room."""
        node = self._nodes[index]
        node.advance(self._now)
        for run in [run for run in node.runs if run.left_s <= _ROUNDING_S]:
            epoch, dice = run.trial.curve[run.validations]
            stop = self._rule.should_stop(run.number, epoch, dice)
            self._rule.add(run.number, epoch, dice)
            run.validations += 1
            finished = run.validations == len(run.trial.curve)
            if stop and not finished:
                self._study.stopped.append(run.number)
            if stop or finished:
                self._study.trained_s += run.trial.seconds_at(run.validations)
                node.remove(run)
                del self._live[run.number]
        self._schedule_validation(index)
        self._start_pending(index)

    def _lose(self, index: int) -> None:
        """Lose a node: its trials go on elsewhere from their checkpoints, but for those lost too often."""
        node = self._nodes[index]
        node.advance(self._now)
        lost, node.is_up = list(node.runs), False
        for run in lost:
            node.remove(run)
        self._schedule_validation(index)
        self._schedule(self._now + self._cluster.replacement_s, "replacement", index)
        for run in lost:
            self._study.losses += 1
            self._study.repeated_s += run.lose(self._cluster.checkpoint_s, self._cluster.restart_s)
            if run.losses > MOST_LOSSES:
                self._study.failed.append(run.number)
                self._study.trained_s += run.kept_s
                del self._live[run.number]
                continue
            run.resources = self._placement.resources  # of a shared GPU the whole, as `FullGpuOnRetry` says
            self._start_or_wait(run)
        self._suggest()
