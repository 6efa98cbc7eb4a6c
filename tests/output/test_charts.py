"""Charts: where values lie, round ticks, texts that stay text, marks that a page can join."""

import re
from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossnet.output.charts import (
    Axis,
    Curve,
    TrialMark,
    bars,
    histogram,
    learning_curves,
    parallel_coordinates,
    trade_off,
)
from ossnet.output.charts.scale import Scale

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


def elements(svg: object, kind: str) -> list[Element]:
    return [each for each in fromstring(str(svg)).iter() if each.get("class") == kind]


@given(st.lists(NUMBERS, min_size=1, max_size=20))
def test_all_values_lie_inside_their_axis(values: list[float]) -> None:
    scale = Scale.over(values, 0.0, 100.0)
    assert all(-1e-6 <= scale(value) <= 100 + 1e-6 for value in values)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 8
    assert all(scale.low - 1e-9 <= tick <= scale.high + 1e-9 * abs(scale.high) for tick in ticks)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=20))
def test_a_logarithmic_axis_too(values: list[float]) -> None:
    scale = Scale.over(values, 0.0, 100.0, log=True)
    assert all(-1e-6 <= scale(value) <= 100 + 1e-6 for value in values)
    assert scale(max(values)) >= scale(min(values))


@given(st.integers(1, 3), st.integers(1, 500))
def test_epochs_are_named_by_whole_numbers(first: int, more: int) -> None:
    ticks = Scale.over([first, first + more], 0.0, 1.0).ticks(whole=True)
    assert ticks
    assert all(tick == int(tick) for tick in ticks)


def test_a_histogram_counts_every_case() -> None:
    svg = histogram([1.0, 1.0, 2.0, 9.0], label="size")
    counts = [int(re.search(r": (\d+) case", each[0].text or "")[1]) for each in elements(svg, "bar")]  # type: ignore[index]
    assert sorted(counts) == [1, 1, 2]


def test_names_stay_text() -> None:
    svg = str(bars({"<script>": 0.5}, label='a"<b>'))
    assert "<script>" not in svg
    assert fromstring(svg).get("aria-label") == 'a"<b>'


def test_the_front_the_budget_and_the_winner_are_drawn() -> None:
    marks = [
        TrialMark(3, 1.0, 0.5, "#111111", "three", finished=True),
        TrialMark(4, 2.0, 0.75, "#222222", "four", finished=True, best=True),
        TrialMark(5, 3.0, 0.7, "#333333", "five", finished=False),
    ]
    svg = trade_off(marks, front=[0, 1], label="GiB", limit=2.5)
    assert [each.get("data-trial") for each in elements(svg, "mark")] == ["3", "4"]
    assert [each.get("data-trial") for each in elements(svg, "hollow")] == ["5"]
    (limit,), (ring,), (front,) = (elements(svg, kind) for kind in ("limit", "winner", "front"))
    four = elements(svg, "mark")[1]
    assert ring.get("cx") == four.get("cx")
    assert (
        float(four.get("cx", 0)) < float(limit.get("x1", 0)) < float(elements(svg, "hollow")[0].get("cx", 0))
    )
    assert (front.get("d") or "").count("V") == 1


def test_a_stopped_curve_is_marked_so() -> None:
    curves = [
        Curve(1, {1: 0.1, 2: 0.2}, "#111111", "one", finished=True),
        Curve(2, {1: 0.3}, "#222222", "two", finished=False),
    ]
    svg = learning_curves(curves, label="epoch")
    assert [each.get("data-trial") for each in elements(svg, "curve stopped")] == ["2"]


def test_a_line_has_a_gap_where_a_trial_has_no_such_parameter() -> None:
    axes = [Axis("network", {1: "a", 2: "b"}), Axis("width", {1: 8.0}), Axis("Dice", {1: 0.5, 2: 0.75})]
    lines = elements(parallel_coordinates(axes, {1: "one", 2: "two"}), "line")
    first, second = sorted(lines, key=lambda each: each.get("data-trial") or "")
    assert (first.get("d") or "").count("L") == 2
    assert (second.get("d") or "").count("M") == 2  # lifted over the axis that it misses
    assert (second.get("data-heights") or "").split(",")[1] == ""


@pytest.mark.parametrize("trial", ["1", "2"])
def test_better_trials_are_drawn_above_worse_ones(trial: str) -> None:
    axes = [Axis("Dice", {1: 0.5, 2: 0.75})]
    lines = elements(parallel_coordinates(axes, {1: "one", 2: "two"}), "line")
    assert [each.get("data-trial") for each in lines] == ["1", "2"]
