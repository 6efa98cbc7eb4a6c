"""Faults of a cluster's nodes: one of two is killed, or cut off for a while."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from random import Random

import psutil
from chaos_study import SmallStudy
from fault import Fault
from node_cluster import cluster


@contextmanager
def _two_nodes(study: SmallStudy) -> Iterator[None]:
    """A head without CPUs and two nodes with one each, which share the disk."""
    with cluster(study.folder) as nodes:
        for name in ("a", "b"):
            nodes.add(name)
        study.environment["RAY_ADDRESS"] = nodes.address
        study.nodes = {name: nodes.processes[name].pid for name in ("a", "b")}
        yield


def _processes(study: SmallStudy, chance: Random) -> list[int]:
    """All of one of the nodes."""
    node = psutil.Process(study.nodes[chance.choice("ab")])
    return [each.pid for each in node.children(recursive=True)]


def _signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _kill_node(study: SmallStudy, chance: Random) -> None:
    _signal_all(_processes(study, chance), signal.SIGKILL)


def _cut_off_node(study: SmallStudy, chance: Random) -> None:
    """Stop all that runs there, which for the others is as if its network were cut."""
    pids = _processes(study, chance)
    _signal_all(pids, signal.SIGSTOP)
    time.sleep(chance.uniform(30, 40))
    _signal_all(pids, signal.SIGCONT)


NODE_FAULTS = (
    Fault("one of two nodes killed", _two_nodes, during=_kill_node),
    Fault("one of two nodes cut off for 35 s", _two_nodes, during=_cut_off_node),
)
