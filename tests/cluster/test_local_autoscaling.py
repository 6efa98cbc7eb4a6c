"""cluster/local-autoscaling.yaml, started by its first lines: nodes come for what waits, go when idle."""

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from node_cluster import free_port

ROOT = Path(__file__).parents[2]
FILE = ROOT / "cluster" / "local-autoscaling.yaml"
START_S, TASKS_S, STOP_S = 120, 300, 5
TASKS = """
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False)
def count():
    return sum(node["Alive"] for node in ray.nodes()) - 1
@ray.remote(num_cpus=1)
def place():
    time.sleep(3)
    return ray.get_runtime_context().get_node_id()
before = count()
places = ray.get([place.remote() for _ in range(6)], timeout=200)
deadline = time.monotonic() + 60
while count() and time.monotonic() < deadline:
    time.sleep(0.5)
print(before, len(set(places)), count())
"""


@pytest.mark.slow
def test_nodes_come_and_go_as_its_first_lines_say(tmp_path: Path) -> None:
    text, port = FILE.read_text(), free_port()
    said = re.search(r"# Start:(.*?)# Submit:", text, re.DOTALL)
    assert said is not None
    config = tmp_path / "cluster.yaml"
    config.write_text(text.replace("6379", str(port)))
    command = re.sub(r"\n#\s*", " ", said[1]).strip()
    command = command.replace("6379", str(port)).replace(str(FILE.relative_to(ROOT)), str(config))
    command += f" --block --dashboard-port={free_port()} --disable-usage-stats"
    environment = os.environ | {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    log = tmp_path / "head.log"
    with log.open("w") as sink:
        # A group of its own, so that its end takes the nodes along and no other Ray of this machine.
        head = subprocess.Popen(
            ["bash", "-c", command], env=environment, stdout=sink, stderr=sink, start_new_session=True
        )
    try:
        until = time.monotonic() + START_S
        while "Ray runtime started" not in log.read_text():
            assert head.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.2)
        done = subprocess.run(
            [sys.executable, "-c", TASKS, f"127.0.0.1:{port}"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=TASKS_S,
            check=False,
        )
        last = done.stdout.splitlines()[-1:]  # Ray says before what waits
        assert last == ["0 2 0"], done.stderr + log.read_text()
    finally:
        os.killpg(head.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            head.wait(STOP_S)
        os.killpg(head.pid, signal.SIGKILL)
        head.wait()
