"""`train --max-time 2m` ends in two minutes with a network and its Dice, or says at once that it cannot."""

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ossnet.commands import prepare
from ossnet.data import write_phantom

Job = Callable[..., subprocess.CompletedProcess[str]]
NETWORKS = ("feature-query-patch", "feature-pyramid", "oss-net-c", "unet-3d", "unet-2d")


@pytest.fixture(scope="module", params=["small scans", "large scans"])
def two_minute_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of real scans of 35 x 50 x 36 voxels, and one of phantoms of fifteen times as many."""
    folder = tmp_path_factory.mktemp("store")
    if request.param == "small scans":
        source = request.getfixturevalue("shared") / "data" / "msd_hippocampus"
    else:
        source = write_phantom(folder / "scans", cases=6, shape=(112, 112, 80))
    prepare.main(["--source", str(source), "--output", str(folder / "store")])
    return folder / "store"


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_two_minutes_are_two_minutes(
    network: str, two_minute_store: Path, run_process: Job, tmp_path: Path
) -> None:
    """On a machine that has nothing else to do."""
    given = ("--data", two_minute_store, "--model", network, "--max-time", "2m", "--output", "run", "--json")
    began = time.monotonic()
    done = run_process("train", *given)
    took_s = time.monotonic() - began
    print(f"{network}: exit {done.returncode} after {took_s:.0f} s; {done.stdout[-200:]}{done.stderr[-200:]}")
    if done.returncode == 2:
        assert "expected time for one step and one validated case" in done.stderr
        assert took_s < 90
        return
    assert done.returncode == 0, done.stderr
    assert 90 <= took_s <= 150
    assert (tmp_path / "run" / "checkpoint" / "model.safetensors").is_file()
    assert 0 <= json.loads(done.stdout.splitlines()[-1])["metrics"]["dice/val"] <= 1
