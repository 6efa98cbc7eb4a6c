"""The batch file on a real Slurm of one node, where one is installed: ended, queued again, finished."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = """\
ClusterName=ossnet
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
MailProg=/bin/true
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment in which Slurm's commands speak to a controller and a node of this test."""
    if shutil.which("slurmctld") is None or os.geteuid() != 0:
        pytest.skip("no Slurm on this machine, or not root")
    if subprocess.run(["munge", "-n"], stdout=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("munged does not run")
    host = socket.gethostname().partition(".")[0]
    for name in ("spool", "state"):
        (tmp_path / name).mkdir()
    path = tmp_path / "slurm.conf"
    path.write_text(CONFIG.format(host=host, folder=tmp_path, ports=free_ports(2)))
    environment = os.environ | {"SLURM_CONF": str(path)}
    commands = (["slurmctld", "-D"], ["slurmd", "-D", "-N", host])
    daemons = [subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) for command in commands]
    try:
        wait_for(lambda: "idle" in run(environment, "sinfo"), 60)
        yield environment
    finally:
        run(environment, "scancel", "--full", "--user=root")  # or what they started would outlive the daemons
        wait_for(lambda: not run(environment, "squeue", "--noheader"), 60)
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)


def run(environment: dict[str, str], *command: str) -> str:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False).stdout


def wait_for(condition: object, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(1)


def test_a_study_survives_its_time_limit(slurm: dict[str, str], phantom_store: Path, tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    (checkout / ".venv" / "bin").mkdir(parents=True)
    folder = Path(sys.executable).parent
    (checkout / ".venv" / "bin" / "activate").write_text(f'export PATH="{folder}:$PATH"\n')
    log, study = tmp_path / "job.log", tmp_path / "study"
    places = {"STORE": str(phantom_store), "OUTPUT": str(study), "PYTHONPATH": str(ROOT)}
    here = ["--nodes=1", "--gpus-per-node=0", "--cpus-per-task=2", "--mem=0", f"--output={log}"]
    what = ["--trials", "3", "--model", "feature-query", "--space", "sampling", "--training.epochs", "8"]
    batch = ROOT / "cluster" / "slurm" / "tune.sbatch"
    submitted = subprocess.run(
        ["sbatch", "--parsable", *here, batch, *what],
        cwd=checkout,
        env=slurm | places,
        capture_output=True,
        text=True,
        check=True,
    )
    job = submitted.stdout.strip()
    wait_for(lambda: any(study.glob("trials/*/checkpoint_*/state.pt")), 300)  # one trains
    run(slurm, "scancel", "--signal=TERM", "--batch", job)  # what Slurm sends before the time limit
    wait_for(lambda: "interrupted; go on with: ossnet tune" in log.read_text(), 120)
    wait_for(lambda: "JobState=PENDING" in run(slurm, "scontrol", "show", "job", job), 60)
    run(slurm, "scontrol", "update", f"JobId={job}", "StartTime=now")
    wait_for(lambda: "JobState=COMPLETED" in run(slurm, "scontrol", "show", "job", job), 420)
    (ended,) = re.findall(r"(\d+) finished, (\d+) stopped early, 0 failed", log.read_text())
    assert sum(map(int, ended)) == 3
    assert (study / "checkpoint" / "version.json").is_file()
