"""Prefetching: same items, one ahead and no more, errors in their place, no thread left behind."""

import threading
import time
from collections.abc import Iterator

import pytest

from ossnet.sampling.prefetch import prefetch


def test_items_come_in_order() -> None:
    assert list(prefetch(range(50))) == list(range(50))


def test_one_item_is_made_while_another_is_in_use_and_no_more() -> None:
    made = []

    def items() -> Iterator[int]:
        for index in range(6):
            made.append(index)
            yield index

    for item in prefetch(items()):
        deadline = time.monotonic() + 5
        while len(made) < min(item + 2, 6) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.01)
        assert len(made) == min(item + 2, 6)


def test_an_error_comes_where_its_item_would_have() -> None:
    def broken() -> Iterator[int]:
        yield 1
        msg = "disk gone"
        raise OSError(msg)

    stream = prefetch(broken())
    assert next(stream) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(stream)


def test_leaving_early_ends_the_thread_and_closes_the_source() -> None:
    ended = []

    def source() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            ended.append(True)

    stream = prefetch(source())
    assert next(stream) == 0
    stream.close()
    assert not any(thread.name == "prefetch" for thread in threading.enumerate())
    assert ended == [True]
