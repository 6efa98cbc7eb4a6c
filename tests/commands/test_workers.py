"""How many workers a job is to have, as it is written."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.commands._values import parse_workers
from ossnet.distributed.cluster.resources import describe_workers, fewest, most
from ossnet.errors import UserError


@given(low=st.integers(1, 999), more=st.integers(0, 999))
def test_a_range_is_the_fewest_and_the_most(low: int, more: int) -> None:
    workers = parse_workers(f"{low}-{low + more}")
    assert (fewest(workers), most(workers)) == (low, low + more)
    assert isinstance(workers, tuple) == bool(more)  # Ray trains the same otherwise
    assert parse_workers(str(low)) == low
    assert str(low) in describe_workers(workers)


@given(st.text("0123456789- ,x", max_size=8))
def test_whatever_is_written_is_a_range_or_one_line(text: str) -> None:
    match = re.fullmatch(r"\s*([0-9]+)(?:-([0-9]+))?\s*", text)
    valid = match is not None and 1 <= int(match[1]) <= int(match[2] or match[1])
    if valid:
        assert fewest(parse_workers(text)) >= 1
        return
    with pytest.raises(UserError, match="--workers: expected a number from 1, or the fewest and the most"):
        parse_workers(text)


@pytest.mark.parametrize(
    ("text", "end"),
    [("8-2", "found 8-2; write 2-8"), ("0-2", "found 0-2"), ("2-", "found 2-"), ("0", "found 0")],
)
def test_a_mistake_is_one_line(text: str, end: str) -> None:
    with pytest.raises(UserError) as error:
        parse_workers(text)
    assert str(error.value).endswith(end)
    assert "\n" not in str(error.value)
