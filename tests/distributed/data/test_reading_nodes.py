"""Object storage read by nodes without a GPU, of which one is lost meanwhile, for a node with a GPU."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from node_cluster import Nodes, cluster
from s3_server import s3_server

from ossnet.config import Config
from ossnet.data import Store

# Train in a task on the node with a GPU that only Ray knows of; the losses of its steps.
TRAIN = """
import json, os, sys, time
import ray, torch
from ossnet.config import Config
from ossnet.data import Store
from ossnet.distributed.data.store_handle import StoreHandle
from ossnet.training_run import run_training

class Losses:
    def __init__(self):
        self.steps = []
    def step(self, metrics, step):
        self.steps.append(metrics["loss/train"])
        time.sleep(PAUSE)
    def epoch(self, metrics, checkpoint):
        pass

def train(store, config):
    torch.set_num_threads(1)
    losses = Losses()
    run_training(config, store, reporter=losses, device="cpu", predicted_gib=0.1)
    return losses.steps

url, config = sys.argv[1], Config.from_json(sys.argv[2])
PAUSE = float(sys.argv[3])
if "RAY_ADDRESS" in os.environ:
    ray.init(log_to_driver=False)
    handle = StoreHandle.of(Store.open(url), config.data)
    far = ray.remote(num_gpus=1)(lambda: train(handle.open(config.data), config))
    print(json.dumps(ray.get(far.remote())))
else:
    print(json.dumps(train(Store.open(url), config)))
"""


def losses(done: subprocess.CompletedProcess[str]) -> list[float]:
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[float] = json.loads(done.stdout)
    return found


def stop_the_busier_reader(nodes: Nodes) -> str:
    """Stop the node that has read more, once three cases are read; the name of the other."""
    until = time.monotonic() + 600
    while len(nodes.cached("first")) + len(nodes.cached("second")) < 3:
        assert time.monotonic() < until
        time.sleep(0.02)
    busier, other = sorted(("first", "second"), key=lambda name: -len(nodes.cached(name)))
    nodes.stop(busier)
    return other


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_nodes_without_a_gpu_read_and_one_takes_over_from_another(
    phantom_store: Path, tmp_path: Path
) -> None:
    origin = Store.open(phantom_store)
    config = Config.preset("oss-net-d", origin).replace(
        {
            "model.encoder_channels": (4, 8),
            "model.decoder_width": 16,
            "model.decoder_blocks": 2,
            "model.patch_edge": 3,
            "sampling.points": 64,
            "training.batch_size": 1,
            "training.epochs": 2,
            "training.validate_every": 2,
            "data.cache_folder": "$NODE_FOLDER/cache",
            "data.read_by": "cpu-nodes",
        }
    )
    with s3_server(tmp_path) as s3, cluster(tmp_path, s3.environment) as nodes, ThreadPoolExecutor() as pool:
        s3.upload(phantom_store, "store")
        for name in ("first", "second"):
            nodes.add(name)
        nodes.add("gpu", gpus=1)
        url = f"s3://{s3.bucket}/store"
        running = pool.submit(nodes.python, "-c", TRAIN, url, config.to_json(), "1.5")
        other = stop_the_busier_reader(nodes)
        found = losses(running.result())
        files = [entry.file for entry in origin.manifest.cases.values()]
        used = {Path(file).name for file in files if s3.opened[f"store/{file}"]}
        assert nodes.cached("gpu") == used
        assert nodes.cached("first") | nodes.cached("second") == used
        assert len(used) >= 9  # eight to train on, one or more to validate
        assert nodes.cached(other)
        assert all(s3.opened[f"store/{file}"] <= 2 for file in files)  # two where one was lost meanwhile
        assert sum(s3.opened[f"store/{file}"] for file in files) <= len(used) + 4
        assert "Spilled" not in nodes.memory_summary()
    alone = subprocess.run(
        [sys.executable, "-c", TRAIN, str(phantom_store), config.to_json(), "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert len(found) == 16
    assert found == losses(alone)
