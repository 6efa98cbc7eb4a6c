"""Volumes of 512^3, more than the object store holds, on their way to a node without their files."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from node_cluster import cluster, may_hide_folders

from ossnet.data import Store
from ossnet.data.store.case_file import compute_digest, write_case
from ossnet.data.store.store import CaseEntry, Manifest, write_manifest

EDGE = 512
OBJECT_STORE = 1_500_000_000
CASES, BATCH = 6, 3
IN_FLIGHT = 2 * BATCH  # the next batch is read while one is used
CASE_BYTES = 3 * EDGE**3
CACHE_GIB = 1.7  # four files: each epoch fetches all cases anew
MIB = 2**20

# Read all cases three times on the node that has CPUs; by epoch its worker's own memory, and what it read.
READ = f"""
import json, sys
from pathlib import Path
import ray
from ossnet.data import Store
from ossnet.data.store.cache import DataConfig
from ossnet.distributed.data.store_handle import StoreHandle
from ossnet.sampling.loader import load_volumes
from ossnet.sampling.sampler import SampleKey

def batched(values, size):
    return [values[start : start + size] for start in range(0, len(values), size)]

def own_memory():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])

def read(store):
    cases = store.split("training")
    memory = [own_memory()]
    for epoch in range(3):
        steps = [[SampleKey(epoch, 0, case) for case in batch] for batch in batched(cases, {BATCH})]
        seen = {{}}
        options = {{"threads": {IN_FLIGHT}, "ahead_bytes": {BATCH * CASE_BYTES}}}
        for volumes in load_volumes(steps, store.case, **options):
            for volume in volumes:
                seen[volume.key.case] = [float(volume.voxels.min()), float(volume.voxels.max())]
        del volume, volumes
        memory.append(own_memory())
    return {{"memory": memory, "seen": seen}}

config = DataConfig(cache_folder="$NODE_FOLDER/cache", cache_gib={CACHE_GIB})
ray.init(log_to_driver=False)
handle = StoreHandle.of(Store.open(sys.argv[1]), config)
print(json.dumps(ray.get(ray.remote(num_cpus=1)(lambda: read(handle.open(config))).remote())))
"""


def write_large_store(folder: Path, example: Store, values: Mapping[str, float]) -> None:
    """A store of cases of 512^3 voxels in float16, in each of them one value."""
    first = example.case(example.split("training")[0]).header
    statistics = replace(first.statistics, shape=(EDGE, EDGE, EDGE), storage="float16")
    entries = {}
    (folder / "cases").mkdir(parents=True)
    for case, value in values.items():
        stored = replace(
            example.case(first.id),
            header=replace(first, id=case, group=case, statistics=statistics, scales=()),
            voxels=np.full((1, EDGE, EDGE, EDGE), value, np.float16),
            label=np.zeros((EDGE, EDGE, EDGE), np.uint8),
        )
        file = f"cases/{case}.arrow"
        write_case(folder / file, stored)
        entries[case] = CaseEntry(file, case, statistics, compute_digest(folder / file))
    splits = {"training": tuple(values), "validation": (), "test": ()}
    manifest: Manifest = replace(example.manifest, cases=entries, splits=splits, folds=(), excluded={})
    write_manifest(folder, manifest)


def result(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not may_hide_folders(), reason="needs the right to mount")
def test_six_in_flight_spill_nothing_and_leave_the_memory_as_it_is(
    phantom_store: Path, tmp_path: Path
) -> None:
    values = {f"case-{number}": float(number + 1) for number in range(CASES)}
    store = tmp_path / "store"
    write_large_store(store, Store.open(phantom_store), values)
    with cluster(tmp_path, object_store=OBJECT_STORE) as nodes:
        nodes.add("far", hidden=store)
        found = result(nodes.python("-c", READ, str(store)))
        summary = nodes.memory_summary()
    assert found["seen"] == {case: [value, value] for case, value in values.items()}
    assert "Spilled" not in summary
    before, *epochs = found["memory"]
    assert max(epochs) - before < 60 * MIB  # measured: 15 to 19, of volumes of 384
    assert epochs[2] - epochs[0] < 20 * MIB  # measured: 4
