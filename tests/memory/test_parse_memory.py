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
        ("7 G", 7 * 10**9),
        ("7Gi", 7 * 2**30),
        ("2 TiB", 2**41),
        ("64b", 64),
    ],
)
def test_memory_is_read(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "8 apples", "-1GB", "0", "GiB", "8ib", "8", "0.0GiB", "1e3MB"])
def test_what_is_no_memory_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="as in 8GiB"):
        parse_memory(text)


def test_a_number_without_a_unit_is_told_how_to_be_written() -> None:
    with pytest.raises(UserError, match="write 8GiB for gibibytes or 8GB for gigabytes"):
        parse_memory("8")
