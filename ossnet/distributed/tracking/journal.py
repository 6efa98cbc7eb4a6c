"""What a tracker was asked to write and has not written yet, on disk: it outlives the tracker and its job."""

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Call = tuple[str, list[Any]]
"""The name of a method and its arguments."""

_FAILURES = "failures"


class Journal:
    """Keeps calls until all are done; a process that is killed loses none, as the system writes them.

    Args:
        path: the file, a line of JSON for each call; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._running = 0

    def read(self) -> tuple[list[Call], Counter[str]]:
        """The calls that were not done when the last process ended, and the failures until then."""
        calls, failures = list[Call](), Counter[str]()
        if self._path is None or not self._path.exists():
            return calls, failures
        for line in self._path.read_bytes().splitlines():
            try:
                name, *arguments = json.loads(line)
            except ValueError:  # one may be cut, or empty
                continue
            if name == _FAILURES:
                failures.update(arguments[0])
            else:
                calls.append((name, arguments))
        return calls, failures

    @contextmanager
    def call(self, name: str, *arguments: Any) -> Iterator[None]:
        """Keep a call that is done inside the block; its arguments come back as JSON has them.

        Raises:
            OSError: it cannot be kept, as where the disk is full; it may be done all the same.
        """
        with self._lock:
            self._running += 1
        try:
            self._append(name, *arguments)
            yield
        finally:
            with self._lock:
                self._running -= 1

    def settle(self, failures: Mapping[str, int]) -> None:
        """Forget the calls, unless one is running; all are done but for these failures.

        Without failures there is no file then.
        """
        with self._lock:
            if self._path is None or self._running:
                return
            if not failures:
                self._path.unlink(missing_ok=True)
                return
            aside = self._path.with_suffix(".new")
            aside.write_bytes(_line(_FAILURES, dict(failures)))
            aside.replace(self._path)

    def _append(self, name: str, *arguments: Any) -> None:
        if self._path is None:
            return
        with self._lock, self._path.open("ab") as file:
            file.write(_line(name, *arguments))


def _line(name: str, *arguments: Any) -> bytes:
    """A line of its own, also behind one that was cut."""
    return b"\n" + json.dumps([name, *arguments], default=str).encode() + b"\n"
