"""Requests to a store that may be away for a while: sent in order, tried again, or counted as failed."""

import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator

from ossnet.errors import first_line
from ossnet.output.atomic_write import disk_fault

NO_ANSWER = "the store does not answer"
"""Why a request waits."""
_BACKOFF_S = 2.0  # before a store that did not answer is tried again
_PASSING_STATUS = {408, 425, 429, 502, 503, 504}
_PASSING_ERRORS = {"ConnectionError", "Timeout", "TimeoutError", "HTTPClientError", "MaxRetryError"}
_PASSING_DATABASE = re.compile(
    r"locked|busy|unable to open|readonly|disk I.O|connect|timed? ?out", re.IGNORECASE
)


class Outbox:
    """Sends requests in their order.

    Where the store does not answer, they wait in memory; a request that it rejects is counted and left out.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, Callable[[], None]]] = deque()
        self.failures = Counter[str]()
        self._retry_at = 0.0
        self._lock = threading.RLock()

    @property
    def idle(self) -> bool:
        """Whether nothing waits or is being sent."""
        return not self._waiting

    def send(self, what: str, request: Callable[[], None]) -> None:
        """Send a request after all that still wait, or have it wait as well.

        Args:
            what: names the request in a message.
        """
        with self._lock:
            self._waiting.append((what, request))
            if time.monotonic() < self._retry_at:
                return
            try:
                self.flush(timeout_s=0.0)
            except Exception:
                self._retry_at = time.monotonic() + _BACKOFF_S

    def flush(self, timeout_s: float) -> None:
        """Send what still waits.

        Raises:
            Exception: what kept the first one from being sent, where it could not be within `timeout_s`.
        """
        until = time.monotonic() + timeout_s
        with self._lock:
            while self._waiting:
                what, request = self._waiting[0]
                try:
                    request()
                except Exception as error:
                    if is_passing(error):
                        if time.monotonic() > until:
                            raise
                        time.sleep(_BACKOFF_S)
                        continue
                    self.count(what, error)
                self._waiting.popleft()

    def count(self, what: str, error: Exception, times: int = 1) -> None:
        """Count a request, or what was in it, as failed."""
        self.failures[f"{what} ({one_line(error)})"] += times

    def take_failures(self) -> Counter[str]:
        """How often what failed since the last call; what still waits is among it."""
        failures, self.failures = self.failures, Counter()
        for what, _ in list(self._waiting):
            failures[f"{what} ({NO_ANSWER})"] += 1
        return failures


def is_passing(error: BaseException) -> bool:
    """Whether a request failed for a connection or the time, so that another try may succeed."""
    errors = list(_causes(error))
    database = [each for each in errors if type(each).__name__ == "OperationalError"]
    if database:
        return bool(_PASSING_DATABASE.search(str(database[0])))
    return any(_is_passing(each) for each in errors)


def one_line(error: BaseException) -> str:
    """The first line of an error's message, or its type; of a disk that takes no more always the same."""
    return disk_fault(error) or first_line(error)


def _is_passing(error: BaseException) -> bool:
    names = {each.__name__ for each in type(error).__mro__}
    if "SSLError" in names:
        return False
    status = getattr(error, "get_http_status_code", None)
    return bool(names & _PASSING_ERRORS) or (status is not None and status() in _PASSING_STATUS)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
