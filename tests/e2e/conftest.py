"""Jobs as a person runs them: processes of their own, in an empty folder, on tiny networks."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Job = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_job(tmp_path: Path) -> Job:
    """Run a job of a name with options; its relative outputs land in `tmp_path`."""

    def run(name: str, *options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *map(str, options)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # several threads wait for one another if busy
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture(scope="session")
def tiny_training() -> list[str]:
    """Options of a training of seconds, for any network: two steps and maybe a validation an epoch."""
    options = {
        "sampling.points": "64",
        "training.batch-size": "4",
        "training.validate-every": "2",
        "training.validation-cases": "1",
        "optimizer.name": "adamw",
    }
    return [part for name, value in options.items() for part in (f"--{name}", value)]


@pytest.fixture(scope="session")
def tiny_network() -> list[str]:
    """Options that make an OSS-Net small."""
    options = {
        "decoder-width": ["16"],
        "decoder-blocks": ["2"],
        "patch-edge": ["3"],
        "encoder-channels": ["4", "8"],
    }
    return [part for name, values in options.items() for part in (f"--model.{name}", *values)]
