"""Faults of a machine: processes that are killed or stop, clocks that jump, disks that are full."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import ENOSPC
from pathlib import Path
from random import Random
from tempfile import mkdtemp

import pytest
from chaos_study import SmallStudy
from fault import KILLED, Fault, Step

_CLOCK = Path(__file__).with_name("clock")
_PIECE = bytes(65536)


def _titled(word: str) -> Callable[[SmallStudy], list[int]]:
    return lambda study: [pid for pid, title in study.running.titles().items() if word in title]


_trials, _tracker = _titled("ray::ImplicitFunc"), _titled("ray::Tracker")
_raylet, _control_store = _titled("/raylet"), _titled("/gcs_server")


def _signal(number: int, find: Callable[[SmallStudy], list[int]]) -> Step:
    """Send a signal to one of some processes."""
    return lambda study, chance: os.kill(chance.choice(find(study)), number)


def _driver(study: SmallStudy) -> list[int]:
    return [study.running.process.pid]


def _stop_for_a_while(study: SmallStudy, chance: Random) -> None:
    pid = chance.choice(_trials(study))
    os.kill(pid, signal.SIGSTOP)
    time.sleep(chance.uniform(15, 25))
    os.kill(pid, signal.SIGCONT)


def _kill_at_an_end(study: SmallStudy, chance: Random) -> None:
    study.until_next_end()
    study.running.process.kill()


def _kill_twice_more(study: SmallStudy, chance: Random) -> None:
    """Each time while trials that were resumed train."""
    for _ in range(2):
        study.start("--resume")
        study.until_further_steps()
        time.sleep(chance.uniform(0, 1))
        study.running.kill()


def _kill_all(study: SmallStudy, chance: Random) -> None:
    study.running.kill()


@contextmanager
def _clock(study: SmallStudy) -> Iterator[None]:
    path = os.pathsep.join([str(_CLOCK), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    study.environment |= {"PYTHONPATH": path, "CHAOS_CLOCK": str(study.folder / "clock")}
    yield


def _jump(study: SmallStudy, chance: Random) -> None:
    clock = study.folder / "clock"
    clock.write_text(str(chance.randint(3000, 4000)))
    time.sleep(chance.uniform(2, 5))
    clock.write_text(str(-chance.randint(7000, 8000)))


@contextmanager
def _disk(folder: Path, mebibytes: int) -> Iterator[None]:
    """A small disk of its own at a folder; skips where none may be mounted."""
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def _output_disk(study: SmallStudy) -> Iterator[None]:
    with _disk(study.folder / "disk", 64):
        study.output = "disk/study"
        yield


@contextmanager
def _ray_disk(study: SmallStudy) -> Iterator[None]:
    folder = Path(mkdtemp(prefix="ray-"))  # sockets need a short path
    try:
        with _disk(folder, 64):
            study.environment["RAY_TMPDIR"] = str(folder)
            yield
    finally:
        shutil.rmtree(folder)


def _fill(folder: Callable[[SmallStudy], Path]) -> Step:
    def fill(study: SmallStudy, chance: Random) -> None:
        try:
            with (folder(study) / "fill").open("wb", buffering=0) as file:
                while True:
                    file.write(_PIECE)
        except OSError as error:
            assert error.errno == ENOSPC  # noqa: PT017 - it is what the disk is to say

    return fill


def _output_folder(study: SmallStudy) -> Path:
    return study.folder / "disk"


def _ray_folder(study: SmallStudy) -> Path:
    return Path(study.environment["RAY_TMPDIR"])


def _make_read_only(study: SmallStudy, chance: Random) -> None:
    """As a system does with a disk that has errors; files that are open stay so."""
    folder = str(_output_folder(study))
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)


def _make_writable(study: SmallStudy, chance: Random) -> None:
    subprocess.run(["umount", "--lazy", str(_output_folder(study))], check=True)


def _free(folder: Callable[[SmallStudy], Path]) -> Step:
    return lambda study, chance: (folder(study) / "fill").unlink()


WORKER_KILLED = Fault("SIGKILL of a trial's process", during=_signal(signal.SIGKILL, _trials))
TRACKER_KILLED = Fault("SIGKILL of the tracker", during=_signal(signal.SIGKILL, _tracker))
DRIVER_KILLED = Fault("SIGKILL of the driver", during=_signal(signal.SIGKILL, _driver), exits=KILLED)
SIGTERM = Fault("SIGTERM of the driver", during=_signal(signal.SIGTERM, _driver), exits=143)
CLOCK_JUMPS = Fault("clock an hour ahead, then two behind", _clock, during=_jump)
MACHINE_FAULTS = (
    WORKER_KILLED,
    TRACKER_KILLED,
    Fault("SIGSTOP of a trial's process for 20 s", during=_stop_for_a_while),
    DRIVER_KILLED,
    Fault("SIGKILL of the driver as a trial ends", during=_kill_at_an_end, exits=KILLED),
    Fault("SIGKILL of all processes, as of a lost machine", during=_kill_all, exits=KILLED),
    Fault("SIGKILL of all processes, three times", during=_kill_all, between=_kill_twice_more, exits=KILLED),
    SIGTERM,
    Fault("SIGINT of the driver", during=_signal(signal.SIGINT, _driver), exits=130),
    Fault("SIGKILL of the raylet", during=_signal(signal.SIGKILL, _raylet), exits=2),
    Fault("SIGKILL of Ray's control store", during=_signal(signal.SIGKILL, _control_store), exits=2),
    CLOCK_JUMPS,
    Fault(
        "disk of the output full",
        _output_disk,
        during=_fill(_output_folder),
        between=_free(_output_folder),
        exits=2,
    ),
    Fault(
        "disk of the output read-only",
        _output_disk,
        during=_make_read_only,
        between=_make_writable,
        exits=2,
    ),
    Fault(
        "disk of Ray's files full", _ray_disk, during=_fill(_ray_folder), between=_free(_ray_folder), exits=2
    ),
)
