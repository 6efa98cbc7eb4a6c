"""The margin of a plan: read from its file, and fitted to what was measured."""

import json
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet import config_tree as tree
from ossnet.planning.margin import GB, MARGIN, MemoryOverhead, NeededMemory, fit_margin, read_margin

BYTES = st.integers(10**7, 150 * GB)


def test_the_margin_is_that_of_the_file() -> None:
    text = (files("ossnet.planning") / "margin.json").read_text()
    assert json.loads(text) == tree.to_dict(MARGIN)
    assert read_margin() == MARGIN
    assert MARGIN.factor >= 1
    assert MARGIN.needed(0) == MARGIN.fixed


def test_a_margin_is_written_as_it_is_read() -> None:
    margin = MemoryOverhead(1.07, 6 * 10**8, "NVIDIA L4")
    assert tree.from_dict(MemoryOverhead, json.loads(margin.to_json())) == margin
    assert str(margin) == "1.07 x peak + 0.6 GB"


@given(st.lists(st.tuples(BYTES, BYTES), min_size=1, max_size=30))
def test_a_fitted_margin_covers_every_peak(pairs: list[tuple[int, int]]) -> None:
    peaks = [NeededMemory(*pair) for pair in pairs]
    margin = fit_margin(peaks, source="")
    assert margin.factor >= 1
    assert margin.fixed >= 0
    for peak in peaks:
        assert margin.needed(peak.predicted) >= 1.05 * peak.needed * (1 - 1e-6)


@given(
    st.floats(1, 2),
    st.integers(0, 2 * GB),
    st.lists(BYTES, min_size=3, max_size=20, unique_by=lambda size: size // 10**7),
)
def test_a_line_is_found_again(factor: float, fixed: int, sizes: list[int]) -> None:
    peaks = [NeededMemory(size, round(factor * size) + fixed) for size in sizes]
    margin = fit_margin(peaks, source="here", safety=0)
    assert margin.source == "here"
    for size, needed in peaks:
        assert margin.needed(size) == pytest.approx(needed, rel=0.01, abs=2 * 10**7 + 0.011 * size)


def test_the_smallest_margin_of_two_points() -> None:
    """Needs of 1.5 and 2.5 GB for 1 and 2 GB are on the line 1 x peak + 0.5 GB."""
    margin = fit_margin(
        [NeededMemory(GB, 3 * GB // 2), NeededMemory(2 * GB, 5 * GB // 2)], source="", safety=0
    )
    assert (margin.factor, margin.fixed) == (1.0, 5 * 10**8)
