"""Sizes of memory as people write them."""

import pytest

from ossnet.errors import UserError
from ossnet.memory.parse import parse_memory


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GiB", 8 * 2**30),
        ("8 GB", 8 * 10**9),
        ("1.5gib", 3 * 2**29),
        ("500MB", 5 * 10**8),
        ("7", 7 * 2**30),
        ("2 TiB", 2**41),
        ("64b", 64),
    ],
)
def test_memory_is_read(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "8 apples", "-1GB", "0", "GiB", "8ib"])
def test_what_is_no_memory_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="as in 8GiB"):
        parse_memory(text)
