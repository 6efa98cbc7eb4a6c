"""The doctor: what is right and wrong about a cluster, before a job runs on it."""

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ossnet.distributed.cluster.connection import connect, output_root
from ossnet.distributed.cluster.findings import Finding, check_bandwidth, check_clocks, check_nodes
from ossnet.distributed.cluster.node_facts import NodeFacts
from ossnet.distributed.cluster.shared_output import (
    SHARE,
    ask_nodes,
    asked,
    check_output_everywhere,
    node_name,
    unshared,
)
from ossnet.distributed.tracking.store import TrackingConfig, open_client
from ossnet.errors import UserError, first_line
from ossnet.output.remote.copies import location_of
from ossnet.output.remote.folder import RemoteFolder
from ossnet.output.remote.url import parse_location

logger = logging.getLogger(__name__)

_SAMPLE_BYTES = 64 << 20
_TRIES = 3  # of a clock: the fastest answer is the surest


def examine(output: Path, tracking: TrackingConfig) -> list[Finding]:
    """All checks, on the cluster of `RAY_ADDRESS` or on this machine alone.

    Args:
        output: a folder that jobs would write to; it is made where it is missing.
    """
    with connect():
        nodes = living_nodes()
        facts = ask_nodes(NodeFacts.here, nodes, lambda node: ())
        silent = [node_name(node) for node in nodes if node["NodeID"] not in facts]
        found = [Finding("error", "nodes", f"{each} does not answer", "see its log") for each in silent]
        found += check_nodes(list(facts.values()))
        others = _others(nodes)
        found += [check_clocks(clock_skews(others)), check_bandwidth(_bandwidths(others))]
        found.append(check_output(output))
    return [*found, check_mlflow(tracking)]


@contextmanager
def connect_checked(output: Path) -> Iterator[None]:
    """As `connect`, to a cluster whose nodes all reach a job's output; what else is wrong there is a line.

    Raises:
        UserError: as `connect` and `check_output_everywhere`.
    """
    with connect():
        check_output_everywhere(output)
        warn_of_nodes()
        yield


def warn_of_nodes() -> None:
    """Log what is wrong with the nodes of a cluster of several; the checks that cost little."""
    nodes = living_nodes()
    if len(nodes) < 2:
        return
    facts = ask_nodes(NodeFacts.here, nodes, lambda node: ())
    found = (
        [*check_nodes(list(facts.values())), check_clocks(clock_skews(_others(nodes), tries=1))]
        if facts
        else []
    )
    for each in found:
        if each.level != "ok":
            logger.warning(f"warning: {each.what}: {each.found}; {each.remedy}")


def living_nodes() -> list[Mapping[str, Any]]:
    """The nodes of the cluster, as Ray describes them."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def clock_skews(
    others: Sequence[Mapping[str, Any]], *, tries: int = _TRIES
) -> dict[str, tuple[float, float]]:
    """Seconds by which each of these nodes is ahead of this one, and how uncertain that is, by name."""
    found = dict[str, tuple[float, float]]()
    for _ in range(tries):
        for node in others:
            began = time.time()
            there = ask_nodes(time.time, [node], lambda node: ()).get(node["NodeID"])
            half = (time.time() - began) / 2
            name = node_name(node)
            if there is not None and (name not in found or half < found[name][1]):
                found[name] = (there - began - half, half)
    return found


def _others(nodes: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    import ray

    here = ray.get_runtime_context().get_node_id()
    return [node for node in nodes if node["NodeID"] != here]


def _bandwidths(others: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """MB a second at which each of these nodes fetches from this one, one after the other."""
    import numpy as np
    import ray

    rates = dict[str, float]()
    for node in others:
        sample = ray.put(np.ones(_SAMPLE_BYTES, np.uint8))  # another one each time: nodes keep what they have
        seconds = ask_nodes(_fetch_seconds, [node], lambda node, sample=sample: ([sample],))
        if node["NodeID"] in seconds:
            rates[node_name(node)] = _SAMPLE_BYTES / 1e6 / seconds[node["NodeID"]]
    return rates


def _fetch_seconds(samples: list[Any]) -> float:
    import ray

    began = time.monotonic()
    ray.get(samples[0])
    return time.monotonic() - began


def check_output(output: Path) -> Finding:
    """Whether all nodes read and write a folder, which is as before then."""
    place = parse_location(output)
    folder = output_root() / place if isinstance(place, Path) else RemoteFolder.at(place).path
    where = location_of(folder)
    new = [each for each in (folder, *folder.parents) if not each.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with asked(folder, []):  # which this node can do
            pass
        for node, fault in unshared(folder).items():
            return Finding("error", "output", f"{where} on {node}: {fault}", SHARE)
        return Finding("ok", "output", f"{where} is read and written by all nodes")
    except OSError as error:
        return Finding("error", "output", f"{where}: {first_line(error)}", "name another --output")
    finally:
        with suppress(OSError):
            for each in new:
                each.rmdir()


def check_mlflow(tracking: TrackingConfig) -> Finding:
    """Whether the store of runs answers."""
    if not tracking.exists:
        return Finding("ok", "MLflow", f"{tracking.uri}, which the first job makes")
    try:
        open_client(tracking.uri)
    except UserError as error:
        return Finding("error", "MLflow", str(error))
    return Finding("ok", "MLflow", f"{tracking.uri} answers")
