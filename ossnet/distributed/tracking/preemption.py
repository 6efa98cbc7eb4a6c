"""Nodes that are about to be lost, as spot ones are after a notice: what trains saves a checkpoint first."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ossnet.distributed._ray import draining_nodes
from ossnet.distributed.cluster.shared_output import node_name
from ossnet.errors import first_line
from ossnet.output.duration import format_duration

if TYPE_CHECKING:
    from ray.actor import ActorHandle

    from ossnet.distributed.tracking.client import Tracker

logger = logging.getLogger(__name__)

_EVERY_S, _ANSWER_S = 2.0, 10.0  # between two looks, and for an answer of the tracker


@contextmanager
def saved_before_loss(tracker: "ActorHandle[Tracker]") -> Iterator[None]:
    """Watch for such nodes while the block runs: for each there is a line, and all trainings save."""
    ended = threading.Event()
    thread = threading.Thread(target=_watch, args=(tracker, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_ANSWER_S)


def _watch(tracker: "ActorHandle[Tracker]", ended: threading.Event) -> None:
    import ray

    known = set[str]()
    while not ended.wait(_EVERY_S):
        try:
            found = draining_nodes()
            if found.keys() <= known:
                continue
            names = {node["NodeID"]: node_name(node) for node in ray.nodes()}
            for node in found.keys() - known:
                left = format_duration(max(found[node] - time.time(), 0.0))
                logger.warning(f"{names.get(node, node)} is to go in {left}: trainings save a checkpoint")
            ray.get(tracker.request_save.remote(), timeout=_ANSWER_S)
            known |= found.keys()
        except (ray.exceptions.RayError, RuntimeError) as error:  # as while the control store is away
            logger.debug(f"nodes that are to go: {first_line(error)}")
