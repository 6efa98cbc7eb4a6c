"""Training on nodes that have not the store's files: nodes of one cluster, each with a cache of its own."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from ray.util import get_node_ip_address
from s3_server import s3_server

from ossnet.data import Store
from ossnet.distributed.data.store_handle import _chunk_bytes

ROOT = Path(__file__).parents[3]
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
    "--epochs": "4",
    "--data.cache-folder": "$NODE_FOLDER/cache",
}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Nodes:
    """A head without CPUs, where drivers run, and nodes with one CPU each that cannot see some folders."""

    def __init__(self, folder: Path, stack: ExitStack, environment: dict[str, str]) -> None:
        self.folder, self.stack = folder, stack
        self.environment = os.environ | environment | {"PYTHONPATH": str(ROOT)}
        self.ip, self.port = get_node_ip_address(), free_port()
        ports = [f"--port={self.port}", f"--dashboard-port={free_port()}"]
        temporary = stack.enter_context(TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True))
        self._ray("head", "--head", *ports, "--num-cpus=0", f"--temp-dir={temporary}")
        self._wait_for(1)

    @property
    def address(self) -> str:
        return f"{self.ip}:{self.port}"

    def add(self, name: str, *, hidden: Path | None = None) -> None:
        """Start a node with one CPU, and wait for it."""
        self._ray(name, f"--address={self.address}", "--num-cpus=1", hidden=hidden)
        self._wait_for(len(list(self.folder.glob("*.ray.log"))))

    def train(self, store: Path | str, name: str, *more: str) -> dict[str, float]:
        """Train as a user would on the head; the last metrics."""
        options = [word for option, values in SMALL.items() for word in (option, *values.split())]
        command = [sys.executable, ROOT / "jobs/train.py", "--data", store, "--output", name, "--json"]
        environment = self.environment | {"RAY_ADDRESS": self.address}
        done = subprocess.run(
            [*command, *options, *more],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)["metrics"]

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
        common = ["--block", "--disable-usage-stats", f"--object-store-memory={OBJECT_STORE}"]
        command = [RAY, "start", *options, *common, f"--node-ip-address={self.ip}"]
        if hidden is not None:
            script = 'mount -t tmpfs tmpfs "$0" && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", script, str(hidden), *command]
        environment = self.environment | {"NODE_FOLDER": str(self.folder / name)}
        log = self.stack.enter_context((self.folder / f"{name}.ray.log").open("w"))
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=self.folder)
        self.stack.callback(process.wait)
        self.stack.callback(process.terminate)

    def _wait_for(self, count: int) -> None:
        until = time.monotonic() + 600
        while time.monotonic() < until:
            done = subprocess.run(
                [sys.executable, "-c", _COUNT_NODES, self.address],
                env=self.environment,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
            if done.stdout.strip() == str(count):
                return
            time.sleep(1)
        raise TimeoutError(f"there are not {count} nodes")


@contextmanager
def cluster(folder: Path, environment: dict[str, str] | None = None) -> Iterator[Nodes]:
    with ExitStack() as stack:
        yield Nodes(folder, stack, environment or {})


def may_hide_folders() -> bool:
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not may_hide_folders(), reason="needs the right to mount")
def test_a_node_without_the_files_trains_as_one_that_has_them(phantom_store, tmp_path):
    with cluster(tmp_path) as nodes:
        nodes.add("far", hidden=phantom_store)
        far = nodes.train(phantom_store, "run-far")
        used = {Path(entry.file).name for entry in Store.open(phantom_store).manifest.cases.values()}
        assert nodes.cached("far") <= used
        assert len(nodes.cached("far")) >= 9  # eight to train on, one or more to validate
        assert not nodes.cached("head")
        assert "Spilled" not in nodes.memory_summary()
    one = tmp_path / "one"
    one.mkdir()
    with cluster(one) as nodes:
        nodes.add("near")
        near = nodes.train(phantom_store, "run-near")
        assert not nodes.cached("near")
        weights = nodes.weights("run-near")
    assert far["loss/train_epoch"] == near["loss/train_epoch"]
    assert far["dice/val"] == near["dice/val"]
    assert (tmp_path / "run-far" / "checkpoint" / "model.safetensors").read_bytes() == weights


@pytest.mark.slow
def test_each_node_opens_each_object_once(phantom_store, tmp_path):
    with s3_server(tmp_path) as s3, cluster(tmp_path, s3.environment) as nodes:
        s3.upload(phantom_store, "store")
        url = f"s3://{s3.bucket}/store"
        nodes.add("first")
        nodes.add("second")
        metrics = nodes.train(url, "run", "--workers", "2")
        assert metrics["epoch"] in (2, 4)  # of the better checkpoint
        files = [entry.file for entry in Store.open(phantom_store).manifest.cases.values()]
        here = [sum(Path(file).name in nodes.cached(name) for name in ("first", "second")) for file in files]
        assert [s3.opened[f"store/{file}"] for file in files] == here
        assert max(here) == 2
        assert "Spilled" not in nodes.memory_summary()


def test_all_nodes_together_keep_to_their_share_of_the_object_store():
    for count, memory in ((1, 2e9), (2, 1.5e9), (17, 4e10)):
        cluster = [{"CPU": 4, "object_store_memory": memory}] * count
        chunk = _chunk_bytes(cluster, 0.1)
        assert max(count - 1, 1) * 4 * 2 * chunk <= 0.1 * memory
    assert _chunk_bytes([{"CPU": 4}], 1.0) == 16 << 20
