"""A job as a process of its own: its log is a file, and all that it starts shares its session."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]


class JobProcess:
    """A job that runs in a folder."""

    def __init__(
        self, folder: Path, name: str, *options: object, environment: Mapping[str, str] | None = None
    ) -> None:
        command = [sys.executable, str(ROOT / "jobs" / f"{name}.py"), *map(str, options)]
        self.log = folder / f"{name}-{len(list(folder.glob(f'{name}-*.log')))}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    @property
    def lines(self) -> list[str]:
        """Its log."""
        return self.log.read_text(errors="replace").splitlines()

    def until(self, condition: Callable[[], bool], limit_s: float = 300.0) -> None:
        """Wait for something that happens while the job runs."""
        until = time.monotonic() + limit_s
        while not condition():
            assert self.process.poll() is None, self.lines
            assert time.monotonic() < until, self.lines
            time.sleep(0.1)

    def end(self, limit_s: float = 570.0) -> tuple[int, list[str]]:
        """The exit status and the log, once it has ended.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        self.process.wait(limit_s)
        return self.process.returncode, self.lines

    def processes(self) -> list[int]:
        """The job, and all that it started, as far as they run."""
        found = []
        for each in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError):
                if os.getsid(int(each.name)) == self.process.pid and not _is_zombie(each):
                    found.append(int(each.name))
        return found

    def titles(self) -> dict[int, str]:
        """The titles of these processes, or how they were called, by their ids."""
        found = {}
        for pid in self.processes():
            with suppress(OSError):
                found[pid] = Path(f"/proc/{pid}/cmdline").read_text().partition("\0")[0]
        return found

    def kill(self) -> None:
        """End it and all that it started at once, as where a machine is lost."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def _is_zombie(process: Path) -> bool:
    return process.joinpath("stat").read_text().rpartition(")")[2].split()[0] == "Z"
