"""Interruptions: SIGTERM ends a job as Ctrl-C does, and what cannot be interrupted is waited for."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

Result = TypeVar("Result")
_installed = False
_POLL_S = 0.2


class Terminated(KeyboardInterrupt):
    """The process was told to end by SIGTERM."""


class Overdue(Exception):  # noqa: N818 - as it is no fault of the code that is waited for
    """What was waited for has not ended in time."""


class Interruption:
    """Whether a block was interrupted whose end is postponed."""

    def __init__(self) -> None:
        self.error: KeyboardInterrupt | None = None
        """What is to be raised."""


@contextmanager
def postponed(interruption: Interruption, *, at_most_s: float) -> Iterator[None]:
    """Have the first Ctrl-C or SIGTERM in the block noted only, and raised at its end; the next one raises.

    Only the main thread hears of signals: elsewhere nothing is postponed.

    Args:
        at_most_s: seconds after which it is raised in any case.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, _frame: FrameType | None) -> None:
        if interruption.error is not None:
            raise interruption.error
        interruption.error = Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
        signal.setitimer(signal.ITIMER_REAL, at_most_s)

    signals = [signal.SIGINT, signal.SIGALRM, *([signal.SIGTERM] if _installed else [])]
    handlers = {number: signal.signal(number, note) for number in signals}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if interruption.error is not None:
        raise interruption.error


def exit_code(interruption: KeyboardInterrupt) -> int:
    """The exit code of a job that was interrupted, as a shell has it."""
    return 128 + (signal.SIGTERM if isinstance(interruption, Terminated) else signal.SIGINT)


def raise_on_signals() -> None:
    """Have Ctrl-C and SIGTERM raise in the main thread, in this job and after `keep_raising`."""
    global _installed
    _installed = True
    keep_raising()


def keep_raising() -> None:
    """Install the handlers of `raise_on_signals` again where a library has replaced them."""
    if _installed and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_for(
    call: Callable[[], Result], *, until: float | None = None, meanwhile: Callable[[], None] = lambda: None
) -> Result:
    """The result of a call in a thread of its own, so that signals reach the main thread at once.

    Args:
        until: unix time at which it is given up.
        meanwhile: called again and again, here; it may raise to give up.

    Raises:
        Overdue: it was given up; it still runs.
        BaseException: what the call raises.
    """
    results, errors = list[Result](), list[BaseException]()

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_POLL_S)
        meanwhile()
        if until is not None and time.time() > until and thread.is_alive():
            raise Overdue
    if errors:
        raise errors[0]
    return results[0]


def _terminate(_signum: int, _frame: FrameType | None) -> None:
    raise Terminated
