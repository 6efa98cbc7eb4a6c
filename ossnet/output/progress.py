"""Progress of long work: a bar on a terminal; in a log a timed line at least every 20 s."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ossnet.output.duration import counted, format_duration

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

FIRST_S = 10.0
"""Seconds of silence in a log before the first line of a piece of work."""
SOON_S = 1.0
"""The same in the first seconds of a process, of which imports took some: a job's first line is early."""
LONGEST_SILENCE_S = 20.0
"""Seconds between two lines of a log."""
_LOOK_EVERY_S = 1.0
_LOADED_S = time.monotonic()


@dataclass
class Work:
    """How far a piece of work is, as text."""

    what: str
    """What is done, as in "preparing"."""
    total: int | None = None
    """How many there are to do; None: nobody knows."""
    unit: str = "case"
    size: int | None = None
    """Bytes of all together, by which the time left is estimated."""
    now: Callable[[], float] = time.monotonic
    done: int = 0
    note: str = ""
    """What was found lately, as a Dice."""
    _bytes: int = 0
    _share: float | None = None
    _place: str = ""
    _began: float = field(init=False)
    _began_at: float = 0.0
    _known_since: float = field(init=False)
    _moved: float = field(init=False)  # when it was last further: a wait since then is no pace

    def __post_init__(self) -> None:
        """Start the clock."""
        self._began = self._known_since = self._moved = self.now()

    def advance(self, amount: int = 0, note: str = "") -> None:
        """One more is done, of so many bytes."""
        self.done += 1
        self._moved = self.now()
        self._bytes += amount
        self.note = note or self.note

    def set(self, share: float, place: str, note: str) -> None:
        """Say how far it is from 0 to 1, where that is (as "epoch 3 of 50"), and what was found."""
        if self._share is None:
            self._began_at, self._known_since = share, self.now()
        if share != self._share:
            self._moved = self.now()
        self._share, self._place, self.note = share, place, note

    def restart(self) -> None:
        """Forget its pace: it goes on at another one, or after a wait."""
        self._share = None

    @property
    def elapsed_s(self) -> float:
        """Seconds since it began."""
        return self.now() - self._began

    @property
    def share(self) -> float | None:
        """The share that is done; None where nobody knows."""
        if self._share is not None:
            return min(self._share, 1.0)
        if self.size:
            return min(self._bytes / self.size, 1.0)
        return self.done / self.total if self.total else None

    @property
    def left_s(self) -> float | None:
        """Estimated seconds until its end."""
        share = self.share
        if share is None or share <= self._began_at:
            return None
        return (self._moved - self._known_since) * (1 - share) / (share - self._began_at)

    def state(self) -> str:
        """Where it is, how fast, and how long it will take."""
        parts = [self._place or self._count(), self._rate()]
        left = self.left_s
        parts += (
            [f"for {format_duration(self.elapsed_s)} now"]
            if left is None
            else [f"{format_duration(left)} left"]
        )
        return ", ".join(part for part in [*parts, self.note] if part)

    def _count(self) -> str:
        return "" if self.total is None else f"{self.done} of {counted(self.total, self.unit)}"

    def _rate(self) -> str:
        if not self.done or self.elapsed_s <= 0:
            return ""
        if self.size:
            return f"{self._bytes / self.elapsed_s / 1e6:.1f} MB/s"
        each = self.elapsed_s / self.done
        return (
            f"{format_duration(each)} a {self.unit}" if each >= 1 else f"{1 / each:.3g} {self.unit}s a second"
        )


class Lines:
    """When a log gets its next line.

    Args:
        first_s: seconds of silence before the first one.
        every_s: seconds between any two.
    """

    def __init__(
        self,
        *,
        first_s: float = FIRST_S,
        every_s: float = LONGEST_SILENCE_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._every_s, self._now = every_s, now
        self._due = now() + first_s

    def written(self) -> None:
        """A line was written, whatever it says."""
        self._due = self._now() + self._every_s

    def take(self) -> bool:
        """Whether a line is due; the caller writes it."""
        if self._now() < self._due:
            return False
        self.written()
        return True


class Progress:
    """Shows a piece of work; what calls it may be any thread."""

    def __init__(self, work: Work, say: Callable[[str], None]) -> None:
        self.work, self._say = work, say

    def __call__(self, amount: int = 0, note: str = "") -> None:
        """One more is done, of so many bytes."""
        self.work.advance(amount, note)

    def set(self, share: float, place: str, note: str = "") -> None:
        """Say how far it is, from 0 to 1, where that is, and what was found lately."""
        self.work.set(share, place, note)

    def restart(self) -> None:
        """Forget its pace: it goes on at another one, or after a wait."""
        self.work.restart()

    def say(self, line: str) -> None:
        """Write a line that stays, above a bar or among those of a log."""
        self._say(line)


def first_s(uptime_s: float) -> float:
    """Seconds of silence in a log before the first line of work that begins when a process is so old."""
    return SOON_S if uptime_s < FIRST_S else FIRST_S


@contextmanager
def progress(
    what: str, *, total: int | None = None, unit: str = "case", size: int | None = None
) -> Iterator[Progress]:
    """Show on the error stream how far a piece of work is, how fast it goes and how long it will take.

    In a log that is a line after 10 s, or sooner as a job begins, and then every 20 s at most, whether
    anything was done or not.

    Args:
        what: what is done, as in "preparing".
        total: how many there are to do; without it only time passes.
        unit: one of them.
        size: bytes of all together.
    """
    work = Work(what, total, unit, size)
    if sys.stderr.isatty():
        with _bars() as bars:
            bars.add_task(what, total=None if total is None and size is None else 1.0, work=work)
            with _repeated(lambda: _refresh(bars, work)):
                yield Progress(work, lambda line: bars.console.print(line, markup=False, highlight=False))
                _refresh(bars, work)
        return
    lines = Lines(first_s=first_s(time.monotonic() - _LOADED_S))

    def say(line: str) -> None:
        lines.written()
        print(line, file=sys.stderr, flush=True)

    with _repeated(lambda: say(f"{what}: {work.state()}") if lines.take() else None):
        yield Progress(work, say)


@contextmanager
def _repeated(look: Callable[[], None]) -> Iterator[None]:
    """Call a function every second while the block runs."""
    ended = threading.Event()

    def repeat() -> None:
        while not ended.wait(_LOOK_EVERY_S):
            look()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _bars() -> "Bars":
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TextColumn
    from rich.progress import Progress as Bars
    from rich.text import Text

    class State(ProgressColumn):
        """The state as a log has it."""

        def render(self, task: "Task") -> Text:
            return Text(task.fields["work"].state())

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(24), State())
    return Bars(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty())


def _refresh(bars: "Bars", work: Work) -> None:
    share = work.share
    if share is not None:
        bars.update(bars.task_ids[0], completed=share, total=1.0)
