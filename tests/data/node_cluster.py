"""A Ray cluster of several nodes on this machine, of which some cannot see some folders."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from ray.util import get_node_ip_address

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
OBJECT_STORE = 200_000_000
_COUNT_NODES = """
import ray, sys
ray.init(sys.argv[1], log_to_driver=False)
print(sum(node["Alive"] for node in ray.nodes()))
"""
SMALL = {
    "--model.encoder-channels": "4 8",
    "--model.decoder-width": "16",
    "--model.decoder-blocks": "2",
    "--model.patch-edge": "3",
    "--sampling.points": "64",
    "--training.batch-size": "4",
    "--training.validate-every": "2",
    "--optimizer.name": "adamw",
    "--data.cache-folder": "$NODE_FOLDER/cache",
}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def job_command(job: str, *options: object) -> list[str]:
    """A job of a name, which prints JSON."""
    return [str(ROOT / "jobs" / f"{job}.py"), *map(str, options), "--json"]


@dataclass(frozen=True)
class Driver:
    """A job that runs on the head."""

    process: subprocess.Popen[bytes]
    log: Path

    def until(self, condition: Callable[[], object], limit_s: float = 300.0) -> None:
        """Wait for something that happens while it runs."""
        until = time.monotonic() + limit_s
        while not condition():
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < until, self.log.read_text()[-3000:]
            time.sleep(0.2)

    def says(self, text: str) -> bool:
        return text in self.log.read_text()

    def end(self, limit_s: float = 600.0) -> None:
        """Wait for its good end."""
        assert self.process.wait(limit_s) == 0, self.log.read_text()[-3000:]


class Nodes:
    """A head without CPUs, where drivers run, and nodes with one CPU each."""

    def __init__(
        self, folder: Path, stack: ExitStack, environment: dict[str, str], *, object_store: int
    ) -> None:
        self.folder, self.stack, self.object_store = folder, stack, object_store
        self.environment = os.environ | environment | {"PYTHONPATH": str(ROOT)}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.ip, self.port = get_node_ip_address(), free_port()
        ports = [f"--port={self.port}", f"--dashboard-port={free_port()}"]
        temporary = stack.enter_context(TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True))
        self._ray("head", "--head", *ports, "--num-cpus=0", f"--temp-dir={temporary}")
        self._wait_for(1)

    @property
    def address(self) -> str:
        return f"{self.ip}:{self.port}"

    def add(self, *names: str, hidden: Path | None = None, gpus: int = 0) -> None:
        """Start nodes with one CPU each (and GPUs that only Ray knows of), and wait for them."""
        options = f"--address={self.address}", "--num-cpus=1", f"--num-gpus={gpus}"
        for name in names:
            self._ray(name, *options, hidden=hidden)
            self._wait_for_start(name)  # at once they may take longer than Ray waits for each
        self._wait_for(len(self.processes))

    def stop(self, name: str) -> None:
        """End a node, whatever runs there."""
        process = self.processes.pop(name)
        process.terminate()
        process.wait()

    def kill(self, name: str) -> None:
        """Kill all that runs on a node at once, as where the machine is lost."""
        node = psutil.Process(self.processes.pop(name).pid)
        for each in [node, *node.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                each.kill()

    def train(self, store: Path | str, name: str, *more: str) -> dict[str, float]:
        """Train as a user would on the head; the last metrics."""
        done = self.job("train", store, name, "--epochs", "4", *more)
        assert done.returncode == 0, done.stderr[-3000:]
        metrics: dict[str, float] = json.loads(done.stdout)["metrics"]
        return metrics

    def job(self, job: str, store: Path | str, name: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run a job as a user would on the head."""
        options = [word for option, values in SMALL.items() for word in (option, *values.split())]
        command = [ROOT / f"jobs/{job}.py", "--data", store, "--output", name, "--json", *options, *more]
        return self.python(*map(str, command))

    def result(self, job: str, *options: object) -> dict[str, Any]:
        """What a job on the head prints as JSON."""
        done = self.python(*job_command(job, *options))
        assert done.returncode == 0, done.stderr[-3000:]
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def start(self, job: str, *options: object) -> "Driver":
        """Start a job on the head."""
        log = self.folder / f"{job}.log"
        with log.open("wb") as sink:
            process = subprocess.Popen(
                [sys.executable, *job_command(job, *options)],
                env=self.environment | {"RAY_ADDRESS": self.address},
                cwd=self.folder,
                stdout=sink,
                stderr=sink,
            )
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return Driver(process, log)

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run Python on the head."""
        return subprocess.run(
            [sys.executable, *arguments],
            env=self.environment | {"RAY_ADDRESS": self.address},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    def weights(self, name: str) -> bytes:
        return (self.folder / name / "checkpoint" / "model.safetensors").read_bytes()

    def cached(self, node: str) -> set[str]:
        """Names of the case files in a node's cache."""
        return {path.name for path in (self.folder / node).glob("cache/*/*.arrow")}

    def memory_summary(self) -> str:
        command = [RAY, "memory", "--stats-only", "--address", self.address]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True)
        return done.stdout

    def _ray(self, name: str, *options: str, hidden: Path | None = None) -> None:
        common = ["--block", "--disable-usage-stats", f"--object-store-memory={self.object_store}"]
        command = [RAY, "start", *options, *common, f"--node-ip-address={self.ip}"]
        if hidden is not None:
            script = 'mount -t tmpfs tmpfs "$0" && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", script, str(hidden), *command]
        own = str(self.folder / name)
        environment = self.environment | {"NODE_FOLDER": own, "XDG_CACHE_HOME": own}
        log = self.stack.enter_context((self.folder / f"{name}.ray.log").open("w"))
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.folder)
        self.stack.callback(process.wait)
        self.stack.callback(process.terminate)
        self.processes[name] = process

    def _wait_for_start(self, name: str) -> None:
        log = self.folder / f"{name}.ray.log"
        while "Ray runtime started" not in log.read_text():
            self._check_processes()
            time.sleep(0.2)

    def _wait_for(self, count: int) -> None:
        until = time.monotonic() + 600
        while self._alive() != count:
            self._check_processes()
            assert time.monotonic() < until, f"there are not {count} nodes"
            time.sleep(1)

    def _check_processes(self) -> None:
        """Fail at once where a node has ended, with the end of its log."""
        for name, process in self.processes.items():
            log = (self.folder / f"{name}.ray.log").read_text()
            assert process.poll() is None, f"{name} ended ({process.returncode}): {log[-3000:]}"

    def _alive(self) -> int:
        """The nodes that the head counts; 0 where it does not answer."""
        command = [sys.executable, "-c", _COUNT_NODES, self.address]
        with subprocess.Popen(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as asking:
            try:
                while asking.poll() is None:
                    self._check_processes()  # Ray itself would try for minutes
                    time.sleep(0.2)
                assert asking.stdout is not None
                return int(asking.stdout.read() or 0)
            finally:
                asking.kill()


@contextmanager
def cluster(
    folder: Path, environment: dict[str, str] | None = None, *, object_store: int = OBJECT_STORE
) -> Iterator[Nodes]:
    """A cluster whose nodes have object stores of so many bytes."""
    with ExitStack() as stack:
        yield Nodes(folder, stack, environment or {}, object_store=object_store)


def may_hide_folders() -> bool:
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0
