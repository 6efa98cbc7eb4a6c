"""Jobs as a person runs them, in an empty folder, on tiny networks; each as a process of its own too."""

import logging
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Job = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_process(tmp_path: Path) -> Job:
    """Run a job of a name with options as a process of its own, with its own Ray, in `tmp_path`."""

    def run(name: str, *options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *map(str, options)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # several threads wait for one another if busy
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run


@pytest.fixture
def run_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Job:
    """Run the script of a job in this process, which has imported torch and may have Ray, in `tmp_path`.

    With the fixture `cluster` the job uses the Ray of the tests, else it starts one of its own where it
    needs one.
    """

    def run(name: str, *options: object) -> subprocess.CompletedProcess[str]:
        script, code = str(ROOT / "jobs" / f"{name}.py"), 0
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [script, *map(str, options)])
        logging.getLogger("ossnet").handlers.clear()  # they hold the error stream of an earlier test
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        printed = capsys.readouterr()
        return subprocess.CompletedProcess(sys.argv, code, printed.out, printed.err)

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
