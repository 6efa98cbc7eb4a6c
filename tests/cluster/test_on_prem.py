"""`ray up` with on-prem.yaml over ssh, to namespaces of this machine: jobs with a token, and nothing left."""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from node_cluster import SMALL
from ssh_machines import HOME, ROOT, SHARED, Machine, ssh_machines

RAY = Path(sys.executable).with_name("ray")
CONFIG = HOME / "on-prem.yaml"
DASHBOARD = 8265
UP_S, DOWN_S = 180, 180

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


class OnPrem:
    """A laptop whose user has filled in on-prem.yaml and made a token, and the machines that it names."""

    def __init__(self, folder: Path, machines: list[Machine]) -> None:
        self.folder = folder
        self.laptop, self.head, self.worker = machines
        self.said = ""
        self.token = secrets.token_hex(32)
        self._fill_in()
        for machine in (self.head, self.worker):
            _install(machine)

    def _fill_in(self) -> None:
        cluster = yaml.safe_load((ROOT / "cluster" / "on-prem.yaml").read_text())
        cluster["provider"] |= {"head_ip": self.head.address, "worker_ips": [self.worker.address]}
        cluster["auth"] = {"ssh_user": "root", "ssh_private_key": "~/.ssh/id_ed25519"}
        (self.laptop.home / CONFIG.name).write_text(yaml.safe_dump(cluster))
        (self.laptop.home / ".ray").mkdir()
        (self.laptop.home / ".ray" / "auth_token").write_text(self.token)  # which others may read, as Ray's

    def command(self, *words: str | Path, token: bool = True) -> list[str]:
        """A command of Ray on the laptop."""
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(HOME),
            "RAY_AUTH_MODE": "token" if token else "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{DASHBOARD}",
        }
        set_up = ["env", "-i", *(f"{name}={value}" for name, value in variables.items())]
        return self.laptop.command(*set_up, RAY, *words)

    def ray(self, *words: str | Path, token: bool = True) -> tuple[int, str]:
        """The exit code of a command of Ray on the laptop, and all that it said."""
        done = subprocess.run(
            self.command(*words, token=token),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        self.said += done.stdout
        return done.returncode, done.stdout

    def submit(self, job: str, *options: str, token: bool = True) -> tuple[int, str]:
        """Submit a job as cluster/README.md says, and wait for it."""
        return self.ray(
            "job", "submit", "--working-dir", ".", "--", "python", f"jobs/{job}.py", *options, token=token
        )

    @contextmanager
    def dashboard(self) -> Iterator[None]:
        """Leave `ray dashboard` running meanwhile, as in a terminal of its own."""
        with (self.folder / "tunnel.log").open("wb") as log:
            terminal = subprocess.Popen(
                self.command("dashboard", CONFIG), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_for(lambda: ("127.0.0.1", DASHBOARD) in self.laptop.listeners(), 60)
        yield
        for pid in self.laptop.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        terminal.wait(30)

    def files_with(self, secret: str) -> dict[str, int]:
        """The permissions of the files of all machines that hold something, by name."""
        found = dict[str, int]()
        for folder, _, names in os.walk(self.folder):
            for path in (Path(folder, name) for name in names):
                if path.is_file() and not path.is_symlink() and secret.encode() in path.read_bytes():
                    found[str(path.relative_to(self.folder))] = path.stat().st_mode & 0o777
        return found


def _install(machine: Machine) -> None:
    """Our own installation in the place of theirs, which takes the internet: `make setup` finds it done."""
    venv = machine.home / "venv"
    venv.mkdir()
    for each in Path(sys.prefix).iterdir():
        if each.name != ".installed":
            (venv / each.name).symlink_to(each)
    (venv / ".installed").touch()


def wait_for(condition: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(1)


def runs_ray(machine: Machine) -> bool:
    return any("/raylet " in command for command in machine.processes().values())


@pytest.fixture
def on_prem(tmp_path: Path, phantom_store: Path) -> Iterator[OnPrem]:
    with ssh_machines(tmp_path, ("laptop", "head", "worker")) as machines:
        shutil.copytree(phantom_store, tmp_path / "shared" / "store")
        yield OnPrem(tmp_path, machines)


def test_a_cluster_comes_over_ssh_runs_jobs_and_goes(on_prem: OnPrem) -> None:
    code, said = on_prem.ray("up", "--yes", CONFIG)
    assert code == 0, said
    assert runs_ray(on_prem.head)
    wait_for(lambda: runs_ray(on_prem.worker), UP_S)
    with on_prem.dashboard():
        check_jobs(on_prem)
        check_listeners(on_prem)
    code, said = on_prem.ray("down", "--yes", CONFIG)
    assert code == 0, said
    assert on_prem.head.processes() == {}
    wait_for(lambda: not on_prem.worker.processes(), DOWN_S)
    check_secrets(on_prem)


def check_jobs(on_prem: OnPrem) -> None:
    """None without the token; with it the doctor finds two nodes in order, and a network is trained."""
    code, said = on_prem.submit("doctor", token=False)
    assert code == 1
    assert "Missing authentication token" in said
    code, said = on_prem.submit("doctor", "--json")
    assert code == 0, said
    checks = {each["what"]: each for each in result(said)["checks"]}
    assert checks["versions"]["found"].endswith(" on 2 nodes")
    assert [checks[each]["level"] for each in ("versions", "host names", "token", "output")] == ["ok"] * 4
    given = {option: values for option, values in SMALL.items() if "$" not in values}
    small = [word for option, values in given.items() for word in (option, *values.split())]
    where = ["--data", f"{SHARED}/store", "--output", "runs/small", "--epochs", "2"]
    code, said = on_prem.submit("train", *where, "--json", *small)
    assert code == 0, said
    assert 0 <= result(said)["metrics"]["dice/val"] <= 1
    assert (on_prem.folder / "shared" / "runs" / "small" / "checkpoint" / "model.safetensors").is_file()


def result(said: str) -> dict[str, Any]:
    """What a job printed as JSON, among the lines of `ray job submit`."""
    (line,) = (each for each in said.splitlines() if each.startswith("{"))
    found: dict[str, Any] = json.loads(line)
    return found


def check_listeners(on_prem: OnPrem) -> None:
    """The dashboard, which takes jobs, is the head's alone; the rest is within the machines' network."""
    for machine in (on_prem.head, on_prem.worker):
        listeners = machine.listeners()
        assert {address for address, port in listeners if port == DASHBOARD} <= {"127.0.0.1"}
        assert len(listeners) > 1
    assert ("127.0.0.1", DASHBOARD) in on_prem.head.listeners()


def check_secrets(on_prem: OnPrem) -> None:
    """Key and token stand where they must, closed to others, and nowhere else."""
    key = (on_prem.laptop.home / ".ssh" / "id_ed25519").read_text().splitlines()[-3]
    assert on_prem.files_with(key) == {
        "laptop/home/.ssh/id_ed25519": 0o600,
        "head/home/ray_bootstrap_key.pem": 0o600,
    }
    assert on_prem.files_with(on_prem.token) == {
        "laptop/home/.ray/auth_token": 0o644,
        "head/home/.ray/auth_token": 0o600,
        "worker/home/.ray/auth_token": 0o600,
    }
    assert key not in on_prem.said
    assert on_prem.token not in on_prem.said
