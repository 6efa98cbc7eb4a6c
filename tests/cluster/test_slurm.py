"""The batch file for Slurm, with stand-ins for its commands: it starts, ends, and is queued again."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BATCH = ROOT / "cluster" / "slurm" / "tune.sbatch"

RECORDED = """#!/usr/bin/env bash
echo "$(basename "$0") $*" >> "$RECORD"
"""
SCONTROL = RECORDED + '[ "$1" != show ] || printf "one\\ntwo\\n"\n'
SRUN = RECORDED + 'case "$*" in *hostname*) echo 127.0.0.1;; esac\n'
OSSNET = """#!/usr/bin/env bash
echo "ossnet $* RAY_ADDRESS=$RAY_ADDRESS" >> "$RECORD"
trap 'echo "ossnet saved" >> "$RECORD"; exit 143' TERM
[ -n "$ENDS_BY_ITSELF" ] && exit 0
while :; do sleep 0.1; done
"""


@pytest.fixture
def job(tmp_path: Path) -> dict[str, str]:
    """The environment of the job: Slurm's and Ray's commands are recorded, and succeed."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    texts = {"scontrol": SCONTROL, "srun": SRUN, "ray": RECORDED, "ossnet": OSSNET}
    for name, text in texts.items():
        (binaries / name).write_text(text)
        (binaries / name).chmod(0o755)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").write_text("")
    (tmp_path / "record").touch()
    slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "[one,two]", "SLURM_CPUS_PER_TASK": "2"}
    path = f"{binaries}:{os.environ['PATH']}"
    return os.environ | slurm | {"PATH": path, "RECORD": str(tmp_path / "record"), "ENDS_BY_ITSELF": ""}


def start(job: dict[str, str], folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["bash", str(BATCH), "--trials", "5"], cwd=folder, env=job)


def test_a_study_that_ends_is_not_queued_again(job: dict[str, str], tmp_path: Path) -> None:
    assert start(job | {"ENDS_BY_ITSELF": "1"}, tmp_path).wait(60) == 0
    record = (tmp_path / "record").read_text()
    assert "ray start --head" in record
    assert "--nodelist=two ray start --block" in record
    assert "--resume auto --wait-at-most 5m --trials 5 RAY_ADDRESS=127.0.0.1:20007" in record
    assert "requeue" not in record
    assert "0.0.0.0" not in record


def test_what_slurm_ends_saves_and_is_queued_again(job: dict[str, str], tmp_path: Path) -> None:
    process = start(job, tmp_path)
    deadline = time.monotonic() + 60
    while "ossnet tune" not in (tmp_path / "record").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    record = (tmp_path / "record").read_text()
    assert record.index("ossnet saved") < record.index("scontrol requeue 7")
