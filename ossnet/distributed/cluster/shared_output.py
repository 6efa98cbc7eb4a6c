"""Whether all nodes reach a job's output: each reads what the job wrote, and writes what the job reads."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from ossnet.errors import UserError, first_line
from ossnet.output.remote.copies import location_of
from ossnet.output.remote.folder import RemoteFolder
from ossnet.output.remote.url import parse_location

logger = logging.getLogger(__name__)

SHARE = "give an --output on a disk that all nodes share, or one on object storage (s3://...)"
"""The remedy where one does not."""
_NAME = ".ossnet-probe"
_ANSWER_S = 120.0  # of all nodes, which may have to start a process each


@dataclass(frozen=True)
class Probe:
    """A question to all nodes about a folder, and their answers, as small files in it."""

    location: str
    """Path or URL of the folder."""
    token: str

    def ask(self) -> None:
        """Write the question, on the job's node."""
        self._write("question")

    def answer(self, node: str) -> str | None:
        """Read the question and write an answer, on another node; what keeps it from that, in a few words.

        Args:
            node: the name of the answer.
        """
        try:
            if self._read("question") is None:
                folder = parse_location(self.location)
                if isinstance(folder, Path) and not folder.is_dir():
                    return "no such folder"
                return "another folder of this name, without what the job wrote"
            self._write(node)
        except OSError as error:
            return first_line(error)
        return None

    def is_answered(self, node: str) -> bool:
        """Whether an answer has arrived, on the job's node."""
        return self._read(node) == self.token.encode()

    def remove(self, nodes: Sequence[str]) -> None:
        """Remove question and answers."""
        for name in ("question", *nodes):
            with suppress(OSError):
                place = self._place(name)
                if isinstance(place, Path):
                    place.unlink(missing_ok=True)
                else:
                    place[0].delete(place[1])

    def _write(self, name: str) -> None:
        place = self._place(name)
        if isinstance(place, Path):
            place.write_text(self.token)
        else:
            place[0].write(place[1], self.token.encode())

    def _read(self, name: str) -> bytes | None:
        place = self._place(name)
        try:
            return place.read_bytes() if isinstance(place, Path) else place[0].read(place[1])
        except FileNotFoundError:
            return None

    def _place(self, name: str) -> Path | tuple[RemoteFolder, str]:
        """The file, or the folder of object storage and the name in it."""
        file, folder = f"{_NAME}-{self.token}-{name}", parse_location(self.location)
        return folder / file if isinstance(folder, Path) else (RemoteFolder.at(folder, "workers"), file)


def check_output_everywhere(output: Path) -> None:
    """Reject an output that a node does not share with the job's own.

    A node that does not answer is a line. One that the autoscaler adds later is avoided when its first trials
    fail for it.

    Raises:
        UserError: names the first such node, and what it finds there.
    """
    for node, fault in unshared(output).items():
        raise UserError(
            f"{location_of(output)} on {node}",
            expected="the folder that the job writes to",
            found=fault,
            remedy=SHARE,
        )


def unshared(output: Path) -> dict[str, str]:
    """The nodes that do not reach an output, by their names, and why; those without CPUs run nothing."""
    import ray

    here = ray.get_runtime_context().get_node_id()
    others = [
        node
        for node in ray.nodes()
        if node["Alive"] and node["Resources"].get("CPU") and node["NodeID"] != here
    ]
    if not others:
        return {}
    with asked(output, [node["NodeID"] for node in others]) as probe:
        answers = ask_nodes(Probe.answer, others, lambda node: (probe, node["NodeID"]))
        return {
            node_name(node): fault
            for node in others
            if node["NodeID"] in answers
            for fault in [answers[node["NodeID"]] or _silence(probe, node["NodeID"])]
            if fault is not None
        }


def ask_nodes(function: Any, nodes: Sequence[Mapping[str, Any]], arguments: Any) -> dict[str, Any]:
    """What a function returns on each of these nodes, by Ray's id; one that does not answer is a line.

    Args:
        arguments: gives the function's arguments for a node.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(_call)
    calls = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            function, *arguments(node)
        ): node
        for node in nodes
    }
    ray.wait(list(calls), num_returns=len(calls), timeout=_ANSWER_S)
    answers = dict[str, Any]()
    for call, node in calls.items():
        try:
            answers[node["NodeID"]] = ray.get(call, timeout=0)
        except ray.exceptions.RayError as error:
            ray.cancel(call, force=True)
            reason = str(error).strip().splitlines() or [type(error).__name__]
            logger.warning(f"warning: {node_name(node)} does not answer: {reason[-1]}")
    return answers


def _call(function: Any, *arguments: Any) -> Any:
    """Any function as a task: Ray takes no methods and no built-in ones."""
    return function(*arguments)


def node_name(node: Mapping[str, Any]) -> str:
    """A node as lines name it, of `ray.nodes()`."""
    return f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:12]})"


@contextmanager
def asked(output: Path, nodes: Sequence[str]) -> Iterator[Probe]:
    """A question in a folder, which goes with the block, and the answers of these nodes with it.

    Raises:
        OSError: it cannot be written.
    """
    probe = Probe(location_of(output), uuid4().hex)
    probe.ask()
    try:
        yield probe
    finally:
        probe.remove(nodes)


def _silence(probe: Probe, node: str) -> str | None:
    return None if probe.is_answered(node) else "another folder, as what it wrote has not arrived"
