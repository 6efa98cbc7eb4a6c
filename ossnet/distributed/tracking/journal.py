"""What a tracker was asked to write and has not written yet, on disk: it outlives the tracker's process."""

import pickle
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Call = tuple[str, tuple[Any, ...]]
"""The name of a method and its arguments."""

_FAILURES = "failures"


class Journal:
    """Keeps calls until all are done; a process that is killed loses none, as the system writes them.

    Args:
        path: the file; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._running = 0

    def read(self) -> tuple[list[Call], Counter[str]]:
        """The calls that were not done when the last process ended, and the failures until then."""
        if self._path is None or not self._path.exists():
            return [], Counter()
        calls, failures = list[Call](), Counter[str]()
        with self._path.open("rb") as file:
            while True:
                try:
                    name, arguments = pickle.load(file)  # our own process wrote it
                except (EOFError, pickle.UnpicklingError):  # the last one may be cut
                    return calls, failures
                if name == _FAILURES:
                    failures.update(arguments[0])
                else:
                    calls.append((name, arguments))

    @contextmanager
    def call(self, name: str, *arguments: Any) -> Iterator[None]:
        """Keep a call that is done inside the block.

        Raises:
            OSError: it cannot be kept, as where the disk is full; it may be done all the same.
        """
        with self._lock:
            self._running += 1
        try:
            self._append(name, arguments)
            yield
        finally:
            with self._lock:
                self._running -= 1

    def settle(self, failures: Mapping[str, int]) -> None:
        """Forget the calls, unless one is running; all are done but for these failures."""
        with self._lock:
            if self._path is None or self._running:
                return
            content = pickle.dumps((_FAILURES, (dict(failures),))) if failures else b""
            aside = self._path.with_suffix(".new")
            aside.write_bytes(content)
            aside.replace(self._path)

    def _append(self, name: str, arguments: tuple[Any, ...]) -> None:
        if self._path is None:
            return
        with self._lock, self._path.open("ab") as file:
            file.write(pickle.dumps((name, arguments)))
