"""Prefetching: same items, errors in their place, no thread left behind."""

import threading
from collections.abc import Iterator

import pytest

from ossnet.sampling.prefetch import prefetch


def test_items_come_in_order() -> None:
    assert list(prefetch(range(50), ahead=3)) == list(range(50))


def test_an_error_comes_where_its_item_would_have() -> None:
    def broken() -> Iterator[int]:
        yield 1
        msg = "disk gone"
        raise OSError(msg)

    stream = prefetch(broken())
    assert next(stream) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(stream)


def test_leaving_early_ends_the_thread() -> None:
    stream = prefetch(iter(int, 1))
    assert next(stream) == 0
    stream.close()
    assert not any(thread.name == "prefetch" for thread in threading.enumerate())
