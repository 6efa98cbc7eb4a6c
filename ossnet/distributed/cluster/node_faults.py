"""Trainings that fail through no fault of their own: their node has not the store, or its disk is full."""

import logging
from collections import Counter

from ossnet.distributed.cluster.nodes import find_hosts
from ossnet.distributed.cluster.resources import TrialPlacement
from ossnet.errors import UserError

logger = logging.getLogger(__name__)

_MOST = 2  # such failures of a node, after which no further trial starts there


class NodeFaults:
    """Such failures of a study, by their nodes, each of which is avoided after two of them."""

    def __init__(self) -> None:
        self._counts = Counter[str]()
        self._last = ""

    def add(self, node: str, error: str) -> None:
        """Count a failure.

        Args:
            node: Ray's id of the node.
            error: what happened, in one line.
        """
        self._counts[node] += 1
        self._last = error
        if self._counts[node] == _MOST:
            logger.warning(f"warning: no further trial starts on node {node[:12]}: {error}")

    @property
    def avoided(self) -> tuple[str, ...]:
        """Ray's ids of the nodes on which no further trial starts."""
        return tuple(sorted(node for node, count in self._counts.items() if count >= _MOST))

    def are_everywhere(self, placement: TrialPlacement) -> bool:
        """Whether all nodes that trials can run on are avoided."""
        if not self.avoided:
            return False
        hosts = find_hosts(placement.can_run_on)
        return hosts.living <= set(self.avoided) and hosts.count <= len(self.avoided)

    def check(self, placement: TrialPlacement) -> None:
        """Reject a study whose trials wait for a node to run on.

        Raises:
            UserError: all nodes are avoided; says what happened last.
        """
        if self.are_everywhere(placement):
            raise UserError(self._last, remedy="then continue the study by --resume: its trials wait for it")
