"""Make the next item in a thread while the one before is in use."""

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")

_END = object()


def prefetch(items: Iterable[Item]) -> Generator[Item]:
    """Iterate over the items in their order; the next one is made while the consumer uses the one before.

    No more than one is made ahead: an item is begun when the one before has been taken. An exception of the
    source is raised where its item would have come. Closing the iterator ends the thread, and the source
    where that is a generator.
    """
    ready: queue.Queue[object] = queue.Queue()
    taken = threading.Semaphore(1)
    stopped = threading.Event()

    def work() -> None:
        source = iter(items)
        try:
            while taken.acquire() and not stopped.is_set():
                ready.put(next(source, _END))
        except BaseException as error:  # handed to the consumer, which raises it
            ready.put(error)
        finally:
            if isinstance(source, Generator):
                source.close()

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not _END:
            if isinstance(item, BaseException):
                raise item
            taken.release()
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        taken.release()
        thread.join()
