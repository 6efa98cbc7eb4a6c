"""What the doctor makes of what nodes say of themselves: one finding a check, a remedy for each fault."""

from dataclasses import replace

import pytest

from ossnet.distributed.cluster.findings import Finding, check_bandwidth, check_clocks, check_nodes
from ossnet.distributed.cluster.node_facts import NodeFacts, listening

VERSIONS = {"ossnet": "0.2.0", "torch": "2.13.0", "ray": "2.60.0", "python": "3.11.7"}
SOUND = NodeFacts(
    host="a",
    address="10.0.0.1",
    versions=VERSIONS,
    gpus=("NVIDIA L4",),
    driver="580.1",
    disk_gib=100.0,
    shm_gib=8.0,
    token_required=True,
    token_mode=0o600,
    ports=(6379, 8076),
)
OTHER = replace(SOUND, host="b", address="10.0.0.2")


def faults(*nodes: NodeFacts) -> dict[str, Finding]:
    return {each.what: each for each in check_nodes(nodes) if each.level != "ok"}


def test_sound_nodes_have_no_faults() -> None:
    assert faults(SOUND, OTHER) == {}
    lines = [str(each) for each in check_nodes([SOUND, OTHER])]
    assert lines[0] == "ok       versions: python 3.11.7, ossnet 0.2.0, torch 2.13.0, ray 2.60.0 on 2 nodes"
    assert lines[1] == "ok       GPUs: 2 on 2 nodes (NVIDIA L4), driver 580.1"


@pytest.mark.parametrize(
    ("changes", "what", "level", "text"),
    [
        (
            {"versions": VERSIONS | {"torch": "2.12.0"}},
            "versions",
            "error",
            "torch 2.13.0 on a and 2.12.0 on b",
        ),
        ({"driver": "535.2"}, "GPUs", "warning", "drivers 535.2 and 580.1"),
        (
            {"address": "127.0.1.1"},
            "host names",
            "error",
            "b resolves to 127.x or nothing; set GLOO_SOCKET_IFNAME",
        ),
        ({"address": None}, "host names", "error", "b resolves to"),
        ({"disk_gib": 5.0}, "disks", "warning", "5.0 GiB free in the temporary folder of b"),
        ({"disk_gib": 0.5}, "disks", "error", "0.5 GiB free"),
        (
            {"shm_gib": 0.0625},
            "shared memory",
            "warning",
            "0.1 GiB on b, the least of 2 nodes; start the container with",
        ),
        ({"token_mode": 0o644}, "token", "error", "others can read it on b; chmod 600 ~/.ray/auth_token"),
    ],
)
def test_a_fault_of_one_node_is_one_finding_that_names_it(
    changes: dict[str, object], what: str, level: str, text: str
) -> None:
    found = faults(SOUND, replace(OTHER, **changes))
    assert found.keys() == {what}
    assert found[what].level == level
    assert text in str(found[what])
    assert found[what].remedy


def test_a_name_that_is_127_does_no_harm_where_gloo_knows_its_interface_or_is_alone() -> None:
    named = replace(OTHER, address="127.0.1.1", interface="eth0")
    assert faults(SOUND, named) == {}
    assert faults(replace(SOUND, address="127.0.0.1")) == {}


def test_ports_matter_where_no_token_is_required() -> None:
    found = faults(*(replace(node, token_required=False) for node in (SOUND, OTHER)))
    assert {what: each.level for what, each in found.items()} == {"token": "error", "ports": "warning"}
    assert "6379, 8076 of a take anyone's code" in found["ports"].found
    assert faults(replace(SOUND, token_required=False, ports=())) == {}


def test_torch_for_cpus_beside_gpus_is_an_error() -> None:
    found = faults(*(replace(node, versions=VERSIONS | {"torch": "2.13.0+cpu"}) for node in (SOUND, OTHER)))
    assert found.keys() == {"GPUs"}
    assert "torch's build for CPUs on a, b" in found["GPUs"].found


@pytest.mark.parametrize(
    ("skew", "level"),
    [(0.4, "ok"), (-1.9, "ok"), (2.4, "ok"), (-2.6, "warning"), (60.0, "warning"), (-400.0, "error")],
)
def test_clocks_may_differ_by_what_cannot_be_measured_and_two_seconds(skew: float, level: str) -> None:
    found = check_clocks({"a": (0.0, 0.5), "b": (skew, 0.5)})
    assert found.level == level
    if level != "ok":
        assert f"b is {abs(skew):.1f} s {'ahead' if skew > 0 else 'behind'}" in found.found


def test_the_slowest_way_is_what_counts() -> None:
    assert check_bandwidth({}).level == "ok"
    assert check_bandwidth({"a": 1000.0, "b": 60.0}).found == "60 MB/s to b, the least of 2"
    assert check_bandwidth({"a": 1000.0, "b": 20.0}).level == "warning"


def test_ports_on_loopback_are_not_open_to_others() -> None:
    table = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2049 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1 0
   1: 00000000:18EB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 102 1 0
   2: 0200000A:1F8C 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 103 1 0
   3: 0200000A:1F8D 0300000A:1F8D 01 00000000:00000000 00:00000000 00000000     0        0 104 1 0
   4: 00000000000000000000000001000000:1F8E 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 105 1 0
   5: 00000000000000000000000000000000:1F8F 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 106 1 0
"""
    assert listening(table) == {"102": 6379, "103": 8076, "106": 8079}
