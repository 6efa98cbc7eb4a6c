"""The node types of cluster/aws.yaml under Ray's own autoscaler, local processes in place of rented nodes."""

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import autoscaling_record
import pytest
import yaml
from autoscaling_record import watched

ROOT = Path(__file__).parents[2]
RAY = Path(sys.executable).with_name("ray")
FAKE_HEAD = "ray.head.default"  # the provider has no other name
HEAD_ID = "f" * 51 + "00000"
START_S, RUN_S, IDLE_S, STOP_S = 60, 540, 60, 5

TASKS = """
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False)
def kinds():
    return sorted("GPU" in node["Resources"] for node in ray.nodes() if node["Alive"])
@ray.remote
class Trial:
    def node(self):
        return ray.get_runtime_context().get_node_id()
print("at first", kinds())
trials = [Trial.options(num_cpus=1, num_gpus=1).remote() for _ in range(2)]
places = set(ray.get([trial.node.remote() for trial in trials]))
print("two trials", kinds(), "on", len(places))
del trials
deadline = time.monotonic() + 60
while len(kinds()) > 1 and time.monotonic() < deadline:
    time.sleep(0.5)
print("idle", kinds())
ray.get(Trial.options(num_cpus=1, memory=2**30).remote().node.remote())
print("no GPU requested", kinds())
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("", 0))
        return int(listener.getsockname()[1])


def fake_cloud(cluster: dict[str, Any], port: int) -> dict[str, Any]:
    """The configuration that the autoscaler would get, with a provider that starts processes here."""
    from ray._private.services import get_node_ip_address
    from ray.autoscaler._private.util import prepare_config

    config = prepare_config(cluster)
    node_types = {name: each | {"node_config": {}} for name, each in config["available_node_types"].items()}
    node_types[FAKE_HEAD] = node_types.pop(config["head_node_type"])
    return config | {
        "available_node_types": node_types,
        "head_node_type": FAKE_HEAD,
        "provider": {
            "type": "external",
            "module": "fake_nodes.FakeNodes",
            "gcs_address": f"{get_node_ip_address()}:{port}",
            "head_node_id": HEAD_ID,
            "launch_multiple": True,
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "auth": {},
        "file_mounts": {},
        "idle_timeout_minutes": 0.1,
    }


def config_kinds(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """What the head says, cut to what two cores can bear."""
    counts, types = {"gpu_worker": 2, "cpu_worker": 1}, cluster["available_node_types"]
    return [{"count": count, "resources": types[name]["resources"]} for name, count in counts.items()]


@pytest.fixture
def head(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The address of a head that requires a token, and the environment that has it."""
    port = free_port()
    cluster = yaml.safe_load((ROOT / "cluster" / "aws.yaml").read_text())
    config = tmp_path / "autoscaler.json"
    config.write_text(json.dumps(fake_cloud(cluster, port)))
    kinds = config_kinds(cluster)
    environment = os.environ | {
        "OSSNET_AUTOSCALED_NODES": json.dumps(kinds),
        "PYTHONPATH": str(Path(__file__).parent),
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_FAKE_CLUSTER": "1",
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
        "RAY_enable_autoscaler_v2": "1",
    }
    command = [RAY, "start", "--head", "--block", f"--port={port}", f"--autoscaling-config={config}"]
    command += [f"--dashboard-port={free_port()}", "--num-cpus=0", "--num-gpus=0", "--disable-usage-stats"]
    log = tmp_path / "head.log"
    with log.open("w") as output:
        # A group of its own, so that its end takes the fake nodes along and no other Ray of this machine.
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + START_S
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield f"127.0.0.1:{port}", environment
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def run_tasks(address: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", TASKS, address]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=RUN_S, check=False
    )


@pytest.mark.slow
def test_nodes_come_when_requested_and_go_when_idle(head: tuple[str, dict[str, str]]) -> None:
    address, environment = head
    without_token = {name: value for name, value in environment.items() if name != "RAY_AUTH_TOKEN"}
    without_token |= {"RAY_AUTH_MODE": "disabled"}
    assert run_tasks(address, without_token).returncode != 0

    done = run_tasks(address, environment)
    assert done.stdout.splitlines() == [
        "at first [False]",
        "two trials [False, True, True] on 2",
        "idle [False]",
        "no GPU requested [False, False]",
    ], done.stderr


@pytest.mark.slow
def test_a_study_runs_on_nodes_that_come_for_it(
    head: tuple[str, dict[str, str]], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """From none to two nodes, and back to none when it has ended."""
    address, environment = head
    command = [sys.executable, str(ROOT / "jobs" / "tune.py"), "--trials", "4", "--training.epochs", "2"]
    command += ["--early-stopping.algorithm", "none", "--output", str(tmp_path / "study")]
    with watched(address, environment, tmp_path / "timeline.log") as timeline:
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=environment | {"RAY_ADDRESS": address, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        timeline.until_empty(IDLE_S)
        rows = timeline.rows
    assert "4 finished" in done.stdout
    nodes = [row["nodes"] for row in rows]
    assert (nodes[0], max(nodes), nodes[-1]) == (0, 2, 0)
    assert max(row["trials"] for row in rows) == 2
    assert any(row["waiting"] and not row["nodes"] for row in rows)  # they come for what waits
    if request.config.getoption(autoscaling_record.KEEP):
        autoscaling_record.keep(rows)
