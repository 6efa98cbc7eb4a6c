"""Progress of long work over cases: a bar on a terminal, a line now and then anywhere else."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_INTERVAL_S = 10


@contextmanager
def progress(what: str, *, cases: int, size: int) -> Iterator[Callable[[int], None]]:
    """Show on the error stream how many cases are done, MB a second and the time left.

    Args:
        size: bytes of all cases together.

    Yields:
        A function to call with the bytes of each case that is done.
    """
    if sys.stderr.isatty():
        with _bar(what, cases, size) as advance:
            yield advance
    else:
        yield _Lines(what, cases, size)


@contextmanager
def _bar(what: str, cases: int, size: int) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[done]} of {task.fields[cases]} cases"),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=size, done=0, cases=cases)
        done = 0

        def advance(amount: int) -> None:
            nonlocal done
            done += 1
            bar.update(task, advance=amount, done=done)

        yield advance


class _Lines:
    """Prints progress to a log: at most a line in `_INTERVAL_S` seconds."""

    def __init__(self, what: str, cases: int, size: int) -> None:
        self._what, self._cases, self._size = what, cases, size
        self._done, self._bytes = 0, 0
        self._start = self._last = time.monotonic()

    def __call__(self, amount: int) -> None:
        self._done += 1
        self._bytes += amount
        now = time.monotonic()
        if now - self._last < _INTERVAL_S or self._done == self._cases:
            return
        self._last = now
        rate = self._bytes / (now - self._start)
        left = (self._size - self._bytes) / max(rate, 1)
        line = f"{self._what}: {self._done} of {self._cases} cases, {rate / 1e6:.1f} MB/s, {left:.0f} s left"
        print(line, file=sys.stderr, flush=True)
