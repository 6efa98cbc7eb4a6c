"""A Ray cluster of one node that wants a token, as `ray start --head` makes it, with a home of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

RAY = str(Path(sys.executable).with_name("ray"))


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs."""

    address: str
    """Where it takes jobs."""
    home: Path
    """The home of its user, where what jobs write below relative names goes, too."""
    environment: dict[str, str]
    """The environment of a user who has the token."""


def clean_environment(home: Path) -> dict[str, str]:
    """Nothing of Ray or MLflow from outside, a home of its own, and this interpreter first."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "MLFLOW_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "HOME": str(home), "PATH": path, "OMP_NUM_THREADS": "1"}


@contextmanager
def token_cluster() -> Iterator[Cluster]:
    """Start a head, with ports that are free, and end it and all that it started."""
    home = Path(tempfile.mkdtemp(prefix="ossnet-"))  # short: a socket's path has an end
    settings = {"RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    environment = clean_environment(home) | settings
    subprocess.run([RAY, "get-auth-token", "--generate"], env=environment, check=True, capture_output=True)
    port, dashboard, *others = _free_ports(6)
    names = (
        "ray-client-server-port",
        "dashboard-agent-listen-port",
        "dashboard-agent-grpc-port",
        "metrics-export-port",
    )
    command = [RAY, "start", "--head", "--block", "--num-cpus=2", f"--temp-dir={home / 'ray'}"]
    command += [f"--port={port}", f"--dashboard-port={dashboard}"]
    command += [f"--{name}={number}" for name, number in zip(names, others, strict=True)]
    log = home / "head.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, env=environment, stdout=sink, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 120
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.2)
        yield Cluster(f"http://127.0.0.1:{dashboard}", home, environment)
    finally:
        _stop(process)
        shutil.rmtree(home, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a head and all it started; by its own process group, as other clusters may run here."""
    for how, timeout_s in ((signal.SIGTERM, 5), (signal.SIGKILL, 10)):
        os.killpg(process.pid, how)
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            continue
        return
