"""One job at a time writes to an output: locks of the system on a machine, a file with a heartbeat on others.

The file says which process holds it. The heartbeat is the file's time of change, which is compared with that
of a file that is written beside it: the clocks of machines may differ.
"""

import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from ossnet.errors import UserError
from ossnet.output.waiting import Waiting

logger = logging.getLogger(__name__)

LOCK = ".ossnet-lock.json"
"""The file in an output while a job writes to it."""
BEAT_S = 20.0
"""Seconds between two heartbeats."""
DEAD_S = 180.0
"""Seconds without a heartbeat after which a process on another machine counts as dead."""
_POLL_S = 1.0  # while a lock is waited for


@dataclass(frozen=True)
class Writer:
    """The process that writes to an output."""

    job: str
    """As in `ossnet JOB`."""
    host: str
    pid: int
    pids: str
    """The process ids that `pid` is one of: containers of one host have their own."""
    process_start: str
    """When it was started, in ticks since the machine was: a later process may have the same `pid`."""
    since: float
    """Unix time."""
    token: str

    @classmethod
    def this_process(cls, job: str) -> "Writer":
        """The entry of the process that runs."""
        return cls(
            job=job,
            host=socket.gethostname(),
            pid=os.getpid(),
            pids=_process_ids(),
            process_start=_process_start(os.getpid()) or "",
            since=time.time(),
            token=uuid4().hex,
        )

    @classmethod
    def read(cls, lock: Path) -> "Writer | None":
        """The entry in a lock; None where it is not written yet, or was cut.

        Raises:
            FileNotFoundError: there is no lock.
        """
        return cls.parse(lock.read_bytes())

    @classmethod
    def parse(cls, entry: bytes) -> "Writer | None":
        """The process that an entry names; None where it is cut."""
        try:
            return cls(**json.loads(entry))
        except (ValueError, TypeError):
            return None

    @property
    def is_here(self) -> bool:
        """Whether its process would be seen on this machine."""
        return (self.host, self.pids) == (socket.gethostname(), _process_ids())

    @property
    def runs(self) -> bool:
        """Whether its process runs on this machine."""
        return _process_start(self.pid) == self.process_start

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.since))
        return (
            f"an ossnet {self.job} that is still running (process {self.pid} on {self.host}, since {since})"
        )


@contextmanager
def system_lock(output: Path, job: str, *, wait_at_most_s: float = 0.0) -> Iterator[None]:
    """Keep other jobs of this machine out of an output inside the block; the lock goes with the process.

    Some network file systems cannot lock a folder: there is none then.

    Args:
        wait_at_most_s: seconds to wait for another job to end.

    Raises:
        UserError: another job is writing to it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    folder = os.open(output, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for _ in until_free(output, wait_at_most_s, lambda: _holder(output / LOCK)):
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            except OSError as error:
                logger.debug(f"no lock on {output}: {error}")
            break
        else:
            raise in_use(output, job, _holder(output / LOCK))
        yield
    finally:
        os.close(folder)


@contextmanager
def lock_file(output: Path, job: str, *, wait_at_most_s: float = 0.0) -> Iterator[None]:
    """Keep jobs of other machines out of an output inside the block, by a file with a heartbeat.

    A lock is taken over, with a line, when its process is gone: at once where that can be seen, else after
    three minutes without a heartbeat.

    Args:
        wait_at_most_s: seconds to wait for another job to end.

    Raises:
        UserError: another job is writing to it.
        OSError: the file cannot be written.
    """
    lock, mine = output / LOCK, Writer.this_process(job)
    for _ in until_free(output, wait_at_most_s, lambda: _holder(output / LOCK)):
        if _take(lock, mine):
            break
    else:
        raise in_use(output, job, _holder(output / LOCK))
    ended = threading.Event()
    thread = threading.Thread(target=_beat, args=(lock, mine, ended), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(OSError):
            if Writer.read(lock) == mine:
                lock.unlink()


def until_free(
    output: Path | str, wait_at_most_s: float, holder: Callable[[], Writer | None]
) -> Iterator[None]:
    """Tries to take a lock, one a second, until the time is over; the first at once.

    Args:
        holder: gives who has it, for the lines that are said meanwhile.
    """
    waiting, until = Waiting(f"{output}, which another job writes to"), time.monotonic() + wait_at_most_s
    yield
    while time.monotonic() < until:
        waiting.check(lambda: str(holder() or "no word of it"))
        time.sleep(_POLL_S)
        yield


def _take(lock: Path, mine: Writer) -> bool:
    """Make the lock file, in the place of one whose process is dead; False where it is alive."""
    guard = lock.with_name(f"{LOCK}-taken")  # which one job at a time makes to look and to take over
    try:
        guard.open("x").close()
    except FileExistsError:
        with suppress(FileNotFoundError):
            if _silent_s(guard) > DEAD_S:
                guard.unlink()
        return False
    try:
        with suppress(FileNotFoundError):  # there is none, or it went meanwhile
            if not _is_dead(lock):
                return False
        aside = lock.with_name(f"{LOCK}-{mine.token}")
        aside.write_text(json.dumps(asdict(mine)))
        aside.replace(lock)
    finally:
        guard.unlink()
    return True


def _is_dead(lock: Path) -> bool:
    before, silent_s = Writer.read(lock), _silent_s(lock)
    return is_dead(before, silent_s, lock.parent)


def is_dead(writer: Writer | None, silent_s: float, output: Path | str) -> bool:
    """Whether the process of a lock is gone; a line says so.

    Args:
        silent_s: seconds since its last heartbeat.
    """
    if writer is not None and writer.is_here:
        dead, why = not writer.runs, "is gone"
    else:
        dead, why = silent_s > DEAD_S, f"has not been heard of for {silent_s:.0f} s"
    if dead:
        who = "another job"
        if writer is not None:
            who = f"ossnet {writer.job} (process {writer.pid} on {writer.host})"
        logger.warning(f"warning: {output} is taken over: {who} {why}")
    return dead


def _silent_s(lock: Path) -> float:
    """Seconds since the last heartbeat, by the clock of the file system."""
    probe = lock.with_name(f"{LOCK}-{uuid4().hex}")
    try:
        probe.write_text("")
        return probe.stat().st_mtime - lock.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _beat(lock: Path, mine: Writer, ended: threading.Event) -> None:
    """Renew the lock until the job ends; where another job has taken it over, this one is interrupted."""
    while not ended.wait(BEAT_S):
        try:
            now = Writer.read(lock)
            if now == mine:
                os.utime(lock)
            elif now is not None:
                end_this_job(lock.parent, now)
                return
        except FileNotFoundError:  # somebody removed it
            with suppress(OSError):
                _take(lock, mine)
        except OSError as error:  # as where the file system is away for a while
            logger.debug(f"{lock}: {error}")


def _holder(lock: Path) -> Writer | None:
    try:
        return Writer.read(lock)
    except OSError:
        return None


def in_use(output: Path | str, job: str, holder: Writer | None) -> UserError:
    """The error of a job whose output another one writes to."""
    return UserError(
        output,
        expected="an output that no other job is writing to",
        found=f"an ossnet {job} that is still running" if holder is None else str(holder),
        remedy="wait for its end, or name another --output",
    )


def end_this_job(output: Path | str, holder: Writer | str) -> None:
    """Interrupt a job whose lock another one has taken over."""
    logger.error(f"error: {output} was taken over by {holder}: this job ends")
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _process_ids() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # another system
        return ""


def _process_start(pid: int) -> str | None:
    """When a process was started, in ticks since the machine was; None where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:  # a system without /proc
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        return ""
    return ""
