"""What is right and wrong about the nodes of a cluster: one finding a check, each with its remedy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ossnet.distributed.cluster.node_facts import NodeFacts
from ossnet.output.duration import counted

Level = Literal["ok", "warning", "error"]
_DISK_GIB, _FULL_GIB = 10.0, 1.0
_SHM_GIB = 1.0
_SKEW_S, _FAR_S = 2.0, 300.0
_SLOW_MB_S = 50.0
_SHOWN = 4


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    level: Level
    what: str
    found: str
    remedy: str | None = None

    def __str__(self) -> str:
        line = f"{self.level:<7}  {self.what}: {self.found}"
        return line if self.remedy is None else f"{line}; {self.remedy}"


def check_nodes(nodes: Sequence[NodeFacts]) -> list[Finding]:
    """The checks that need nothing but what the nodes say of themselves."""
    return [
        check_versions(nodes),
        check_gpus(nodes),
        check_names(nodes),
        check_disks(nodes),
        check_shared_memory(nodes),
        check_token(nodes),
        check_ports(nodes),
    ]


def check_versions(nodes: Sequence[NodeFacts]) -> Finding:
    """Whether all nodes have the same versions of what results depend on."""
    differing = {
        name: {node.host: node.versions[name] for node in nodes}
        for name in nodes[0].versions
        if len({node.versions[name] for node in nodes}) > 1
    }
    if not differing:
        shown = ", ".join(
            f"{name} {nodes[0].versions[name]}" for name in ("python", "ossnet", "torch", "ray")
        )
        return Finding("ok", "versions", f"{shown} on {_count(nodes)}")
    found = "; ".join(
        f"{name} {' and '.join(f'{text} on {host}' for host, text in each.items())}"
        for name, each in differing.items()
    )
    return Finding("error", "versions", found, "install the same on all nodes, by constraints.txt")


def check_gpus(nodes: Sequence[NodeFacts]) -> Finding:
    """Whether GPUs have a torch that uses them, and drivers are alike."""
    able = [node for node in nodes if node.gpus]
    if not able:
        return Finding("ok", "GPUs", "none")
    without = [node.host for node in able if node.versions.get("torch", "").endswith("+cpu")]
    if without:
        remedy = "install torch's build for CUDA there"
        return Finding("error", "GPUs", f"torch's build for CPUs on {_some(without)}", remedy)
    names = sorted({name for node in able for name in node.gpus})
    found = f"{sum(len(node.gpus) for node in able)} on {_count(able)} ({', '.join(names)})"
    drivers = sorted({str(node.driver) for node in able})
    if len(drivers) > 1:
        remedy = "update the older one, where training on several nodes fails"
        return Finding("warning", "GPUs", f"{found}, drivers {' and '.join(drivers)}", remedy)
    return Finding("ok", "GPUs", f"{found}, driver {drivers[0]}")


def check_names(nodes: Sequence[NodeFacts]) -> Finding:
    """Whether the workers of one training find one another: by the address that a node's name has."""
    lost = [
        node.host
        for node in nodes
        if node.interface is None and (node.address is None or node.address.startswith("127."))
    ]
    if len(nodes) == 1 or not lost:
        return Finding(
            "ok", "host names", ", ".join(f"{node.host} is {node.address}" for node in nodes[:_SHOWN])
        )
    remedy = "set GLOO_SOCKET_IFNAME to its network interface before ray start, or mend /etc/hosts"
    return Finding("error", "host names", f"{_some(lost)} resolves to 127.x or nothing", remedy)


def check_disks(nodes: Sequence[NodeFacts]) -> Finding:
    """Whether Ray and the caches have space."""
    least = min(nodes, key=lambda node: node.disk_gib)
    found = (
        f"{least.disk_gib:.1f} GiB free in the temporary folder of {least.host}, the least of {_count(nodes)}"
    )
    remedy = "free some, or set TMPDIR and data.cache_folder to a larger disk"
    if least.disk_gib < _FULL_GIB:
        return Finding("error", "disks", found, remedy)
    return (
        Finding("warning", "disks", found, remedy)
        if least.disk_gib < _DISK_GIB
        else Finding("ok", "disks", found)
    )


def check_shared_memory(nodes: Sequence[NodeFacts]) -> Finding:
    """Whether Ray's object store has shared memory, of which containers have 64 MiB by default."""
    known = [node for node in nodes if node.shm_gib is not None]
    if not known:
        return Finding("ok", "shared memory", "none on this system")
    least = min(known, key=lambda node: node.shm_gib or 0.0)
    found = f"{least.shm_gib:.1f} GiB on {least.host}, the least of {_count(nodes)}"
    if (least.shm_gib or 0.0) < _SHM_GIB:
        return Finding("warning", "shared memory", found, "start the container with --shm-size=8g or more")
    return Finding("ok", "shared memory", found)


def check_token(nodes: Sequence[NodeFacts]) -> Finding:
    """Whether Ray requires a token, and none but its user can read it."""
    open_to_all = [node.host for node in nodes if node.token_mode is not None and node.token_mode & 0o077]
    if open_to_all:
        return Finding(
            "error", "token", f"others can read it on {_some(open_to_all)}", "chmod 600 ~/.ray/auth_token"
        )
    without = [node.host for node in nodes if not node.token_required]
    if len(nodes) > 1 and without:
        remedy = "set RAY_AUTH_MODE=token before ray start, and copy ~/.ray/auth_token to all nodes"
        return Finding("error", "token", f"none is required on {_some(without)}", remedy)
    return Finding("ok", "token", "not needed on one node" if without else "required")


def check_ports(nodes: Sequence[NodeFacts]) -> Finding:
    """Whether ports of Ray and MLflow are open to machines that need no token."""
    exposed = {node.host: node.ports for node in nodes if node.ports and not node.token_required}
    if not exposed:
        count = sum(len(node.ports) for node in nodes)
        return Finding(
            "ok", "ports", f"{count} that others reach, behind a token" if count else "none that others reach"
        )
    host, ports = next(iter(exposed.items()))
    shown = ", ".join(map(str, ports[:_SHOWN])) + ("..." if len(ports) > _SHOWN else "")
    remedy = "require a token, or close them to all but the cluster's own machines"
    return Finding("warning", "ports", f"{shown} of {host} take anyone's code", remedy)


def check_clocks(skews: Mapping[str, tuple[float, float]]) -> Finding:
    """Whether clocks agree, on which locks, deadlines and signed requests to object storage depend.

    Args:
        skews: seconds by which each node is ahead of this one, and how uncertain that is.
    """
    if not skews:
        return Finding("ok", "clocks", "one node")
    host = max(skews, key=lambda each: abs(skews[each][0]) - skews[each][1])
    skew, uncertain = skews[host]
    found = f"{host} is {abs(skew):.1f} s {'ahead' if skew > 0 else 'behind'} (within {uncertain:.1f} s)"
    sure = abs(skew) - uncertain
    if sure <= _SKEW_S:
        return Finding("ok", "clocks", f"within {max(abs(skew) + uncertain, 0.1):.1f} s")
    return Finding(
        "error" if sure > _FAR_S else "warning", "clocks", found, "run chrony or systemd-timesyncd there"
    )


def check_bandwidth(rates: Mapping[str, float]) -> Finding:
    """Whether cases reach other nodes fast enough.

    Args:
        rates: MB a second from this node, by node.
    """
    if not rates:
        return Finding("ok", "network", "one node")
    host = min(rates, key=lambda each: rates[each])
    found = f"{rates[host]:.0f} MB/s to {host}, the least of {len(rates)}"
    if rates[host] < _SLOW_MB_S:
        remedy = "put the store on object storage or a disk of each node, and train with one worker a trial"
        return Finding("warning", "network", found, remedy)
    return Finding("ok", "network", found)


def _count(nodes: Sequence[NodeFacts]) -> str:
    return counted(len(nodes), "node")


def _some(hosts: Sequence[str]) -> str:
    return ", ".join(hosts[:_SHOWN]) + (f" and {len(hosts) - _SHOWN} more" if len(hosts) > _SHOWN else "")
