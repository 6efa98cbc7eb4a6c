"""Which cluster a process ends up with."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from ossnet.distributed.cluster import connection as clusters
from ossnet.distributed.cluster.nodes import AutoscaledNodes, autoscaled_nodes
from ossnet.errors import UserError


@pytest.mark.parametrize(
    "address", ["127.0.0.1:9", "[::1]:9", "127.0.0.1:99999", "no.such.host.invalid:6379"]
)
def test_a_wrong_address_is_reported_at_once(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match="none to be reached there") as rejected:
        clusters._probe(address)
    assert address in str(rejected.value)
    assert time.monotonic() - began < 60


def test_relative_outputs_of_a_submitted_job_go_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(clusters.SUBMITTED, raising=False)
    assert clusters.output_root() == tmp_path
    monkeypatch.setenv(clusters.SUBMITTED, "{}")
    assert clusters.output_root() == Path.home() / "ossnet"


@pytest.mark.usefixtures("cluster")
def test_a_cluster_that_was_there_stays() -> None:
    import ray

    with clusters.connect():
        node = ray.get_runtime_context().get_node_id()
    assert ray.is_initialized()
    assert ray.get_runtime_context().get_node_id() == node


def test_what_was_started_ends() -> None:
    """In a process of its own, as this one's tests share a cluster."""
    script = (
        "import os, ray\n"
        "from ossnet.distributed.cluster.connection import connect\n"
        "from ossnet.distributed.cluster.nodes import nodes\n"
        "with connect():\n"
        "    assert len(nodes()) == 1 and nodes()[0]['CPU'] >= 1\n"
        "assert not ray.is_initialized()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_nodes_to_come_are_read_from_the_heads_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OSSNET_AUTOSCALED_NODES", raising=False)
    assert autoscaled_nodes() == []
    monkeypatch.setenv("OSSNET_AUTOSCALED_NODES", '[{"count": 2, "resources": {"GPU": 1}, "gpu_gib": 22}]')
    assert autoscaled_nodes() == [AutoscaledNodes(2, {"GPU": 1}, 22)]


@pytest.mark.parametrize("text", ["[", "7", '[{"count": 2}]', '[{"count": 2, "resources": {}, "more": 1}]'])
def test_a_list_of_nodes_that_cannot_be_read_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSSNET_AUTOSCALED_NODES", text)
    with pytest.raises(UserError, match="OSSNET_AUTOSCALED_NODES: expected a JSON list such as") as rejected:
        autoscaled_nodes()
    assert rejected.value.found == text
