"""Machines with ssh on this one: each has its own processes, addresses, home and temporary folder."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
HOME = Path("/srv")  # hidden there: it holds nothing that Python or the checkout need
SHARED = HOME / "ossnet"
COMMANDS = ("unshare", "nsenter", "ip", "ss", "sshd", "ssh", "ssh-keygen", "rsync", "make")
NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid")

# A line says that the network, which comes later, is there. What is installed on this machine serves theirs,
# which cannot change it. /tmp is last, as the folders of tests lie in it.
_BOOT = """
mount -t tmpfs tmpfs /run && mkdir /run/sshd
mount -t tmpfs tmpfs /dev/shm
mount --bind passwd /etc/passwd
mount --bind hosts /etc/hosts
mount --bind home /srv
mount --bind "$2" /srv/ossnet
mount --bind "$3" "$3" && mount -o remount,bind,ro "$3"
mount --bind tmp /tmp
hostname "$1"
ip link set lo up
read -r _
cd /srv
exec "$0" -D -e -f /srv/.ssh/sshd_config
"""
_SSHD = """\
ListenAddress {address}
HostKey /srv/.ssh/host_key
PasswordAuthentication no
PidFile none
"""


class Machine:
    """A machine that runs its ssh server, as root."""

    def __init__(self, folder: Path, name: str, address: str, hosts: str, shared: Path) -> None:
        self.name, self.address, self.folder = name, address, folder / name
        self._furnish(hosts)
        self.log = self.folder / "sshd.log"
        command = ["unshare", *NAMESPACES, "--fork", "--mount-proc", "sh", "-ec", _BOOT]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, found("sshd"), name, shared, sys.prefix],
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        self.first = self._first_process()

    @property
    def home(self) -> Path:
        """Its home, as this machine sees it."""
        return self.folder / "home"

    def _furnish(self, hosts: str) -> None:
        for folder in ("home/.ssh", "home/ossnet", "tmp"):
            (self.folder / folder).mkdir(parents=True, mode=0o755)
        (self.folder / "tmp").chmod(0o1777)
        (self.folder / "hosts").write_text(hosts)
        users = re.sub("(?m)^root:.*$", f"root:x:0:0::{HOME}:/bin/bash", Path("/etc/passwd").read_text())
        (self.folder / "passwd").write_text(users)
        (self.home / ".ssh" / "sshd_config").write_text(_SSHD.format(address=self.address))
        make_key(self.home / ".ssh" / "host_key")

    def _first_process(self) -> int:
        """The one whose end is the end of all others there."""
        unshare = psutil.Process(self.process.pid)
        deadline = time.monotonic() + 30
        while not (children := unshare.children()):
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)
        return children[0].pid

    def boot(self) -> None:
        """Start its ssh server."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.close()

    def on_network(self, *command: str) -> None:
        """Run a command of this machine on that one's network."""
        subprocess.run(["nsenter", f"--target={self.first}", "--net", *command], check=True)

    def command(self, *words: str | Path) -> list[str]:
        """What runs a command there, in the root of the repository."""
        enter = ["nsenter", f"--target={self.first}", *NAMESPACES]
        return [*enter, "sh", "-c", 'cd "$0" && exec "$@"', str(ROOT), *map(str, words)]

    def processes(self) -> dict[int, str]:
        """The commands that run there, besides ssh."""
        here, running = _process_space(self.first), dict[int, str]()
        for process in psutil.process_iter(["name", "cmdline", "status"]):
            if _process_space(process.pid) == here and process.info["status"] != psutil.STATUS_ZOMBIE:
                running[process.pid] = " ".join(process.info["cmdline"] or [process.info["name"]])
        return {pid: command for pid, command in running.items() if "sshd" not in command}

    def listeners(self) -> list[tuple[str, int]]:
        """Addresses and ports of TCP where something listens there."""
        done = subprocess.run(
            self.command("ss", "--tcp", "--listening", "--numeric", "--no-header"),
            capture_output=True,
            text=True,
            check=True,
        )
        places = [line.split()[3].rpartition(":") for line in done.stdout.splitlines()]
        return [(address.strip("[]").partition("%")[0], int(port)) for address, _, port in places]

    def end(self) -> None:
        os.kill(self.first, signal.SIGKILL)  # and so whatever else runs there
        self.process.wait()


@contextmanager
def ssh_machines(folder: Path, names: Sequence[str]) -> Iterator[list[Machine]]:
    """Machines on one private network that share ~/ossnet; the key of the first may log in to all.

    Skips where there can be none.
    """
    if reason := what_is_missing():
        pytest.skip(reason)
    shared = folder / "shared"
    shared.mkdir()
    addresses = {name: f"10.77.0.{number}" for number, name in enumerate(names, 1)}
    hosts = "".join(f"{address} {name}\n" for name, address in addresses.items())
    machines: list[Machine] = []
    try:
        for name, address in addresses.items():
            machines.append(Machine(folder, name, address, f"127.0.0.1 localhost\n{hosts}", shared))
        _connect(*machines)
        key = machines[0].home / ".ssh" / "id_ed25519"
        make_key(key)
        for machine in machines:
            shutil.copy(key.with_suffix(".pub"), machine.home / ".ssh" / "authorized_keys")
            machine.boot()
        yield machines
    finally:
        for machine in machines:
            machine.end()


def _connect(first: Machine, *others: Machine) -> None:
    """By cables to a switch, which the first one has."""
    first.on_network("ip", "link", "add", "name", "switch", "type", "bridge")
    first.on_network("ip", "address", "add", f"{first.address}/24", "dev", "switch")
    first.on_network("ip", "link", "set", "switch", "up")
    for other in others:
        end = ["peer", "name", "eth0", "netns", str(other.first)]
        first.on_network("ip", "link", "add", "name", other.name, "type", "veth", *end)
        first.on_network("ip", "link", "set", other.name, "master", "switch", "up")
        other.on_network("ip", "address", "add", f"{other.address}/24", "dev", "eth0")
        other.on_network("ip", "link", "set", "eth0", "up")
        # It leads nowhere, but Ray takes the address on the way to the internet for the machine's.
        other.on_network("ip", "route", "add", "default", "via", first.address)


def what_is_missing() -> str | None:
    """Why there can be no such machines here, if so."""
    if missing := [name for name in COMMANDS if found(name) is None]:
        return f"needs {', '.join(missing)}"
    links = "ip link add name a type bridge && ip link add name b type veth peer name c"
    tried = subprocess.run(
        ["unshare", *NAMESPACES, "--fork", "sh", "-c", links], capture_output=True, check=False
    )
    return "needs the right to make namespaces, and networks in them" if tried.returncode else None


def found(command: str) -> str | None:
    return shutil.which(command, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")


def make_key(path: Path) -> None:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path]
    subprocess.run(command, check=True)


def _process_space(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/ns/pid").readlink()
    except OSError:
        return None
