"""What a node says of itself to the doctor: versions, GPUs, names, space, clock, open ports."""

import os
import platform
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("ossnet", "torch", "ray", "optuna", "mlflow", "numpy", "pyarrow")
_GIB = 2**30
_LISTENING = "0A"
_LOOPBACK = ("7F", "00000000000000000000000001000000")  # 127.x, and ::1 as the kernel writes it
_OURS = ("ray", "mlflow")  # in the command of a process whose ports matter


@dataclass(frozen=True)
class NodeFacts:
    """A node, as a process on it sees it."""

    host: str
    address: str | None
    """What its own name resolves to; None where it does not."""
    versions: dict[str, str]
    """Of packages, and of Python."""
    gpus: tuple[str, ...] = ()
    driver: str | None = None
    """NVIDIA's."""
    interface: str | None = None
    """The network interface that Gloo is told to use."""
    disk_gib: float = 0.0
    """Free space where Ray and caches put their files."""
    shm_gib: float | None = None
    """Size of the shared memory; None where there is none."""
    token_required: bool = False
    token_mode: int | None = None
    """Permissions of the file with Ray's token; None where there is none."""
    ports: tuple[int, ...] = ()
    """Of Ray and MLflow, which other machines reach."""

    @classmethod
    def here(cls) -> "NodeFacts":
        """The facts of this node."""
        token = Path.home() / ".ray" / "auth_token"
        shm = Path("/dev/shm")
        gpus, driver = _gpus()
        return cls(
            host=socket.gethostname(),
            address=_resolve(socket.gethostname()),
            versions={name: _version(name) for name in PACKAGES} | {"python": platform.python_version()},
            gpus=gpus,
            driver=driver,
            interface=os.environ.get("GLOO_SOCKET_IFNAME"),
            disk_gib=shutil.disk_usage(tempfile.gettempdir()).free / _GIB,
            shm_gib=shutil.disk_usage(shm).total / _GIB if shm.is_dir() else None,
            token_required=os.environ.get("RAY_AUTH_MODE") == "token",
            token_mode=token.stat().st_mode & 0o777 if token.is_file() else None,
            ports=tuple(sorted(set(_open_ports()))),
        )


def listening(table: str) -> dict[str, int]:
    """The ports that other machines reach, by the inodes of their sockets.

    Args:
        table: the text of `/proc/net/tcp` or `tcp6`.
    """
    found = dict[str, int]()
    for line in table.splitlines()[1:]:
        _, local, _, state, *rest = line.split()
        address, _, port = local.partition(":")
        if state == _LISTENING and not address.endswith(_LOOPBACK[0]) and address != _LOOPBACK[1]:
            found[rest[5]] = int(port, 16)
    return found


def _open_ports() -> Iterator[int]:
    """Those of our processes that this user may see."""
    sockets = dict[str, int]()
    for name in ("tcp", "tcp6"):
        table = Path("/proc/net") / name
        if table.is_file():
            sockets |= listening(table.read_text())
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace").lower()
            if any(word in command for word in _OURS):
                links = (str(each.readlink()) for each in (process / "fd").iterdir())
                inodes = (link.removeprefix("socket:[").removesuffix("]") for link in links)
                yield from (sockets[inode] for inode in inodes if inode in sockets)
        except OSError:  # it has ended, or is another user's
            continue


def _gpus() -> tuple[tuple[str, ...], str | None]:
    """The names of this node's GPUs, whatever this process may use, and the version of their driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return (), None
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(n) for n in range(pynvml.nvmlDeviceGetCount())]
        return tuple(str(pynvml.nvmlDeviceGetName(each)) for each in handles), str(
            pynvml.nvmlSystemGetDriverVersion()
        )
    finally:
        pynvml.nvmlShutdown()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _resolve(host: str) -> str | None:
    try:
        return socket.gethostbyname(host)
    except OSError:
        return None
