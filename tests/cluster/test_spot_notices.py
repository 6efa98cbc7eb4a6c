"""A worker learns from a cloud, here a server on loopback, that it is to be taken away, and Ray of it."""

import os
import subprocess
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

CLUSTER = Path(__file__).parents[2] / "cluster"
SCRIPT = CLUSTER / "preemption.sh"
CURL = """#!/usr/bin/env bash
exec "$REAL_CURL" "${@//169.254.169.254/127.0.0.1:$PORT}"
"""
RAY = """#!/usr/bin/env bash
echo "ray $*"
"""
SLEEP = """#!/usr/bin/env bash
exec /bin/sleep 0.1
"""
# By cloud: the header and the path of a request, its answers before and after the notice, and what is left.
CLOUDS = {
    "aws": (("X-aws-ec2-metadata-token", "a"), "/latest/meta-data/spot/instance-action", None, "{}", 120),
    "gcp": (("Metadata-Flavor", "Google"), "/computeMetadata/v1/instance/preempted", "FALSE", "TRUE", 30),
    "azure": (
        ("Metadata", "true"),
        "/metadata/scheduledevents?api-version=2020-07-01",
        '{"Events": []}',
        '{"Events": [{"EventType": "Preempt"}]}',
        30,
    ),
}


class Metadata(ThreadingHTTPServer):
    """A cloud's server of metadata, which gives no answer to what lacks its header."""

    cloud = ""
    noticed = False
    asked = 0


class Handler(BaseHTTPRequestHandler):
    server: Metadata

    def do_PUT(self) -> None:
        self._answer("a" if self.server.cloud == "aws" and self.path == "/latest/api/token" else None)

    def do_GET(self) -> None:
        (header, value), path, before, after, _ = CLOUDS[self.server.cloud]
        known = self.path == path and self.headers[header] == value
        self.server.asked += known
        self._answer((after if self.server.noticed else before) if known else None)

    def _answer(self, text: str | None) -> None:
        self.send_response(404 if text is None else 200)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    with Metadata(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_notice_drains_the_node(cloud: str, metadata: Metadata, tmp_path: Path) -> None:
    real = subprocess.run(["which", "curl"], capture_output=True, text=True, check=False).stdout.strip()
    if not real:
        pytest.skip("needs curl")
    metadata.cloud = cloud
    for name, text in {"curl": CURL, "ray": RAY, "sleep": SLEEP}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    own = {"HOME": str(tmp_path), "REAL_CURL": real, "PORT": str(metadata.server_port)}
    environment = os.environ | own | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", str(SCRIPT), cloud]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as waiting:
        try:
            until = time.monotonic() + 30
            while metadata.asked < 2:
                assert waiting.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
            assert subprocess.run(command, env=environment, timeout=30, check=False).returncode == 0
            metadata.noticed = True
            said, _ = waiting.communicate(timeout=30)
        finally:
            waiting.kill()
    assert said == (
        "ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION "
        f"--reason-message notice of {cloud} --deadline-remaining-seconds {CLOUDS[cloud][-1]}\n"
    )


@pytest.mark.parametrize("cloud", CLOUDS)
def test_workers_wait_for_it(cloud: str) -> None:
    cluster = yaml.safe_load((CLUSTER / f"{cloud}.yaml").read_text())
    assert cluster["file_mounts"]["/home/ubuntu/install/preemption.sh"] == "cluster/preemption.sh"
    last = cluster["worker_start_ray_commands"][-1]
    assert f"bash ~/install/preemption.sh {cloud} " in last
    assert "RAY_AUTH_MODE=token" in last
